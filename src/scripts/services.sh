# shellcheck shell=bash
# Stopping and starting Fuel's containers as their master does it, and telling whoever would otherwise restart them.
# It stands behind lib.sh. KIND is supervisor (to 7.0) or systemd (8.0).

# Nothing here may hang for ever: the way back would never begin. And nothing that the master's tools start, as cobbler's dhcrelay, may inherit the
# job's lock: it would be held when the job is long over.
ctl() { timeout 1800 dockerctl "$@" </dev/null 9>&-; }
service_of() { echo "${1#fuel-core-*-}"; }

# unsupervise KIND SERVICE...: a supervisor that already stopped a program says so with an error, and one whose program ends at
# that moment starts it again, so what counts is what it says afterwards.
unsupervise() {
  local kind=$1 try; shift
  [ $# -gt 0 ] || return 0
  local -a programs=("${@/#/docker-}")
  if [ "$kind" = systemd ]; then timeout 900 systemctl stop "${programs[@]/%/.service}" 9>&-; return $?; fi
  for try in 1 2 3; do
    timeout 300 supervisorctl stop "${programs[@]}" 9>&-
    none_is 'RUNNING|STARTING|BACKOFF' "${programs[@]}" && return 0
  done
  return 1
}

# none_is STATES PROGRAM...: a supervisor that doesn't answer says nothing of the kind. One that it doesn't have it names too, with an error.
none_is() {
  local states=$1 said program; shift
  # Its code says in some versions whether all of them run.
  said=$(timeout 60 supervisorctl status "$@" 2>&1)
  for program in "$@"; do
    printf '%s\n' "$said" | grep "^${program}[: ] *[A-Z]" >/dev/null || { echo "supervisor says nothing of $program: $said"; return 1; }
  done
  ! printf '%s\n' "$said" | grep -E " ($states)( |\$)"
}

# supervise KIND SERVICE...: their containers run by now, so the order is none. One after another each would be waited for as long as it has to
# run to count as started.
supervise() {
  local kind=$1 program; local -a pids=(); shift
  [ $# -gt 0 ] || return 0
  local -a programs=("${@/#/docker-}")
  if [ "$kind" = systemd ]; then timeout 900 systemctl start "${programs[@]/%/.service}" 9>&-; return $?; fi
  for program in "${programs[@]}"; do timeout 300 supervisorctl start "$program" 9>&- & pids+=($!); done
  wait "${pids[@]}"
  none_is 'STOPPED|FATAL|EXITED' "${programs[@]}"
}

# Process 1 of the container doesn't pass SIGTERM on to postgres: ask postgres itself, or it is killed.
stop_postgres() {
  local name=$1 id pid parent try
  id=$(container_id "$name")
  # Without it every postgres of the master would be meant.
  [ -n "$id" ] || return 1
  for pid in $(pgrep -x 'postgres|postmaster'); do
    grep -q "$id" "/proc/$pid/cgroup" 2>/dev/null || continue
    parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status")
    case $(cat "/proc/$parent/comm" 2>/dev/null) in postgres|postmaster) continue ;; esac
    kill -INT "$pid"
    for ((try = 0; try < 300; try++)); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    return 1
  done
}

# Both supervisors can stop the container themselves once they are told, and kill postgres with it; and start it again if it
# stops before they are told. So it is asked while they are being told, a moment later.
unsupervise_postgres() {
  local pid
  unsupervise "$1" postgres & pid=$!
  sleep 1
  ! is_running "$2" || stop_postgres "$2" || note "postgres did not stop by itself within 30 s: it recovers from its log when it starts"
  wait "$pid"
}

# stop_services KIND CONTAINER...: in the order given. systemd has stopped them when it is told, supervisor has not. What began to run meanwhile is
# stopped in a second round.
stop_services() {
  local kind=$1 name running left round; local -a others=()
  shift
  for name in "$@"; do case $name in *-postgres) ;; *) others+=("$(service_of "$name")") ;; esac; done
  unsupervise "$kind" ${others[@]+"${others[@]}"} || return 1
  for round in 1 2 3; do
    running=$(container_names) || return 1
    left=
    for name in "$@"; do
      case $round/$name in
        1/*-postgres) unsupervise_postgres "$kind" "$name" || return 1; is_running "$name" || continue ;;
        *) is_among "$name" "$running" || continue ;;
      esac
      left=$name
      [ $round = 3 ] || ctl stop "$(service_of "$name")" || return 1
    done
    # What came up while the others were being stopped is seen in a second look only.
    [ -n "$left" ] || [ "$round" = 1 ] || return 0
  done
  [ -n "$left" ] || return 0
  echo "$left did not stop"
  return 1
}
is_among() { case $'\n'$2$'\n' in *$'\n'"$1"$'\n'*) ;; *) return 1 ;; esac; }
