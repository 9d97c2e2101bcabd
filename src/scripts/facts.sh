# Everything that a preflight wants to know of a master, in one round trip. Changes nothing.
# usage: facts.sh DIRECTORY...   (the host directories whose sizes are wanted)

first_line() { "$@" 2>&1 </dev/null | head -n 1; }
nearest_existing() { local path=$1; while [ ! -e "$path" ]; do path=$(dirname "$path"); done; echo "$path"; }
free_kib() { df -Pk "$(nearest_existing "$1")" | awk 'NR == 2 { print $4 }'; }

main() {
  local tool path directory ids images mounted
  emit user "$(id -u)"
  emit hostname "$(hostname)"
  emit time "$(date +%s)"
  emit release "$(cat /etc/fuel/version.yaml 2>/dev/null || cat /etc/nailgun/version.yaml 2>/dev/null)"
  emit fuel_release "$(cat /etc/fuel_release 2>/dev/null)"
  emit uuid "$(cat /etc/fuel/fuel-uuid 2>/dev/null)"
  emit astute "$(cat /etc/fuel/astute.yaml 2>/dev/null)"
  emit spool_free_kib "$(free_kib "$tanker_root")"
  emit docker_free_kib "$(free_kib /var/lib/docker)"
  for tool in bash tar lrzip docker fuel dockerctl supervisorctl systemctl setsid flock sha256sum iptables-save; do
    path=$(command -v "$tool") || continue
    case $tool in
      bash|tar) emit "tool.$tool" "$path $(first_line "$tool" --version)" ;;
      lrzip) emit "tool.$tool" "$path $(first_line lrzip -V)" ;;
      *) emit "tool.$tool" "$path" ;;
    esac
  done
  tar --xattrs -cf /dev/null -T /dev/null 2>/dev/null && emit tar_xattrs yes
  for directory in "$@"; do
    [ -d "$directory" ] || continue
    emit "directory.$directory" "$(du -skx "$directory" 2>/dev/null | cut -f1)"
    mounted=$(awk -v d="$directory" '$2 == d || index($2, d "/") == 1 { print $2; exit }' /proc/mounts)
    [ -z "$mounted" ] || emit "mountpoint.$directory" "$mounted"
  done
  awk '$3 == "cgroup" && $4 ~ /(^|,)freezer(,|$)/ { found = 1 } END { exit !found }' /proc/mounts && emit freezer yes
  if command -v docker >/dev/null; then
    emit docker "$(first_line timeout 60 docker -v)"
    if ids=$(timeout 60 docker ps -aq --no-trunc 2>&1); then
      # shellcheck disable=SC2086 # a list of ids
      [ -z "$ids" ] || emit containers "$(timeout 60 docker inspect $ids 2>/dev/null)"
      images=$(timeout 60 docker images -q --no-trunc 2>/dev/null | sort -u)
      # shellcheck disable=SC2086
      [ -z "$images" ] || emit images "$(timeout 60 docker inspect $images 2>/dev/null)"
    else
      emit docker_error "$ids"
    fi
  fi
  for path in "$tanker_root"/*/owner; do
    [ -f "$path" ] || continue
    path=${path%/owner}
    emit "job.${path##*/}" "$(if job_alive "$path"; then echo alive; else echo dead; fi; cat "$path/owner"; [ ! -s "$path/frozen" ] || [ -e "$path/thawed" ] || echo frozen; [ ! -e "$path/cutover" ] || echo half-restored; tail -n 1 "$path/events" 2>/dev/null | cut -d' ' -f2-)"
  done
}
main "$@"
