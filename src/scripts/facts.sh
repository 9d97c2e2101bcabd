# Everything that a preflight wants to know of a master, in one round trip. Changes nothing. Many masters are asked at once, and every program
# that is started costs each of them: what the shell can do itself it does.
# usage: facts.sh TASKS DIRECTORY...   (TASKS: tasks | no-tasks; the host directories whose sizes are wanted)

slurp() { REPLY=; [ ! -r "$1" ] || IFS= read -r -d '' REPLY < "$1"; REPLY=${REPLY%$'\n'}; }
emit_file() { slurp "$2"; emit "$1" "$REPLY"; }
first_line() { REPLY=; IFS= read -r REPLY < <(exec "$@" 2>&1 </dev/null); }
nearest_existing() { REPLY=$1; while [ ! -e "$REPLY" ]; do REPLY=${REPLY%/*}; REPLY=${REPLY:-/}; done; }

free_space() {
  local spool docker kib n=0
  nearest_existing "$tanker_root"; spool=$REPLY
  nearest_existing /var/lib/docker; docker=$REPLY
  while read -r _ _ _ kib _; do
    case $((n++)) in 1) emit spool_free_kib "$kib" ;; 2) emit docker_free_kib "$kib" ;; esac
  done < <(exec df -Pk "$spool" "$docker")
}

tools() {
  local tool
  for tool in bash tar lrzip docker fuel dockerctl supervisorctl systemctl setsid flock sha256sum iptables-save; do
    hash "$tool" 2>/dev/null || continue
    REPLY=
    case $tool in
      bash) REPLY=" $BASH_VERSION" ;;
      tar) first_line tar --version; REPLY=" $REPLY" ;;
      lrzip) first_line lrzip -V; REPLY=" $REPLY" ;;
    esac
    emit "tool.$tool" "${BASH_CMDS[$tool]}$REPLY"
  done
}

directories() {
  local directory kib at kind options freezer='' mounts=()
  while read -r _ at kind options _; do
    mounts+=("$at")
    case $kind,$options, in cgroup,*,freezer,*|cgroup,freezer,*) freezer=yes ;; esac
  done < /proc/mounts
  for directory in "$@"; do
    [ -d "$directory" ] || continue
    [ ! -L "$directory" ] || emit "link.$directory" "$(readlink "$directory")"
    read -r kib _ < <(exec du -skx "$directory" 2>/dev/null)
    emit "directory.$directory" "$kib"
    for at in "${mounts[@]}"; do
      case $at in "$directory"|"$directory"/*) emit "mountpoint.$directory" "$at"; break ;; esac
    done
    [ "$directory" != /var/lib/fuel ] || state_of_containers "$directory" "${mounts[@]}"
  done
  [ -z "$freezer" ] || emit freezer yes
}

# Neither du nor tar goes through a link, or to another file system: where the state of containers lies behind one it must be known.
# usage: state_of_containers DIRECTORY MOUNT...
state_of_containers() {
  local directory=$1 state=$1/container_data path to n=0 kib; shift
  for path in "$state" "$state"/* "$state"/*/*; do
    [ -L "$path" ] && [ -d "$path" ] || continue
    to=$(readlink -f "$path")
    # What lies in there is taken where it lies.
    case $to in "$directory"/*) ;; *) emit "state_link.$((n++))" "$path"$'\n'"$to" ;; esac
  done
  for path in "$@"; do
    case $path in "$state"|"$state"/*) ;; *) continue ;; esac
    # One of the same file system is no border.
    [ "$(stat -c %d "$path" 2>/dev/null)" != "$(stat -c %d "${path%/*}" 2>/dev/null)" ] || continue
    kib=0
    read -r kib _ < <(exec du -skx "$path" 2>/dev/null)
    emit "state_mount.$((n++))" "${kib:-0} $path"
  done
}

containers() {
  local ids images
  hash docker 2>/dev/null || return 0
  first_line docker -v
  emit docker "$REPLY"
  ids=$(exec timeout 60 docker ps -aq --no-trunc 2>&1) || { emit docker_error "$ids"; return; }
  images=$(exec timeout 60 docker images -q --no-trunc 2>/dev/null)
  # One question for all of them: what is asked is the one as well as the other, and each answers as what it is.
  # shellcheck disable=SC2086 # lists of ids
  [ -z "$ids$images" ] || emit docker_objects "$(exec timeout 120 docker inspect $ids $images 2>/dev/null)"
}

# What a restore has pushed, or a part of it: in blocks, for it comes here and there.
pushed() {
  local size
  for size in $(stat -c '%b' "$1/archive.tar.lrz" "$1/archive.tar.lrz.part" 2>/dev/null); do echo "pushed $((size * 512))"; return; done
}

jobs_of_tanker() {
  local path
  for path in "$tanker_root"/*/owner; do
    [ -f "$path" ] || continue
    path=${path%/owner}
    emit "job.${path##*/}" "$(if job_alive "$path"; then echo alive; else echo dead; fi; cat "$path/owner"; [ ! -s "$path/frozen" ] || [ -e "$path/thawed" ] || echo frozen; [ ! -e "$path/cutover" ] || echo half-restored; sed -n 's/^[0-9]* archive \([0-9]*\) .*/packed \1/p' "$path/events" 2>/dev/null | tail -n 1; pushed "$path"; tail -n 1 "$path/events" 2>/dev/null | cut -d' ' -f2-)"
  done
}

# Asks nailgun through the master's own client, and reports code, stdout and stderr as they came.
tasks() {
  local err
  {
    err=$({
      out=$(exec timeout 90 fuel task --list --json </dev/null); code=$?
      { emit tasks.code "$code"; emit tasks.out "$out"; } >&3
    } 2>&1)
  } 3>&1
  emit tasks.err "${err:0:4096}"
}

main() {
  local wanted=$1; shift
  # The client takes a second to start: it is asked beside everything else.
  [ "$wanted" != tasks ] || exec 5< <(tasks)
  emit user "$EUID"
  emit_file hostname /proc/sys/kernel/hostname
  if [ -r /etc/fuel/version.yaml ]; then emit_file release /etc/fuel/version.yaml; else emit_file release /etc/nailgun/version.yaml; fi
  emit_file fuel_release /etc/fuel_release
  emit_file uuid /etc/fuel/fuel-uuid
  emit_file astute /etc/fuel/astute.yaml
  free_space
  tools
  directories "$@"
  containers
  jobs_of_tanker
  [ "$wanted" != tasks ] || exec cat <&5
}
main "$@"
