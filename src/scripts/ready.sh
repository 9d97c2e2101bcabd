# shellcheck shell=bash
# Whether services are ready, before a restore and after it. It stands between job.sh and the job, which sets `job`.

# Does a service, whose container runs, do its work? The rest is asked through `dockerctl check`, the master's own word.
# shellcheck disable=SC2016 # the container's shell expands it
answers() {
  # One that hangs is asked again, and doesn't answer.
  local patience=60
  case $1 in
    postgres) in_container "$2" /bin/sh -c 'for d in /usr/pgsql-*/bin /usr/lib/postgresql/*/bin /usr/bin; do [ -x $d/psql ] && exec su postgres -s /bin/sh -c "$d/psql -qtAc \"select 1\" postgres"; done; exit 1' >/dev/null 2>&1 ;;
    nailgun) nailgun_answers ;;
  esac
}

# Stock archives of 8.0 leave the client's own password out: that nailgun refuses it is an answer too.
nailgun_answers() {
  local said
  # Of 6.1 it ends with 0 also where what it got is no list.
  said=$(timeout 90 fuel task --list --json 2>&1 </dev/null) && { printf '%s\n' "$said" | grep '^ *\[' >/dev/null; return $?; }
  case $said in *Unauthorized*) ;; *) return 1 ;; esac
  note "nailgun answers, but refuses the fuel client's password: put that of FUEL_ACCESS in /etc/fuel/astute.yaml into the client's settings (/root/.config/fuel/fuel_client.yaml, to 7.0 /etc/fuel/client/config.yaml)"
}

# stock_check SECONDS SERVICE: what the master's own tool says. That of 5.1 ends with 0 also where a service failed to start, and only says so.
stock_check() {
  local said
  said=$(timeout "$1" dockerctl check "$2" </dev/null 2>&1 9>&-) || { printf '%s\n' "$said"; return 1; }
  printf '%s\n' "$said"
  case $said in *"failed to start"*) return 1 ;; esac
}

# What works, of the containers in before.containers, is what must work again where a restore is put back: it may be there to mend the rest.
note_what_works() {
  local service name pid _; local -a pids=()
  running_of "$job/before.containers" > "$job/running" || return 1
  while read -r service name _; do note_if_it_answers "$service" "$name" & pids+=($!); done < "$job/running" > "$job/answering"
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || { echo "what works could not be written down"; return 1; }; done
  # One after another: the stock tool of 8.0 has a lock.
  while read -r service name; do ! stock_check 60 "$service" >/dev/null || echo "$service $name" || return 1; done < "$job/answering" > "$job/working"
}
note_if_it_answers() { ! answers "$1" "$2" </dev/null >/dev/null 2>&1 || echo "$1 $2"; }
