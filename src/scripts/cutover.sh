# The cutover of a restore (I4): stops, swaps, recreates, starts, checks, and puts everything back if any of it fails.
# It needs nobody to be connected. What it replaces is kept aside until the checks have passed.
# usage: run.sh JOB STOCK_ID SUPERVISOR KEY      (in the folder that prepare.sh left)
#   SUPERVISOR  supervisor | systemd: who restarts containers on this master
#   KEY         base64 of the public key that tanker came in with, or -
# before.containers: SERVICE NAME IMAGE of the containers there now; before.volumes: MEMBER SERVICE PATH of theirs

services_of() { cut -d' ' -f1 "$1"; }

# Nothing here may hang for ever: the way back would never begin.
ctl() { timeout 1800 dockerctl "$@" </dev/null; }

# ---- services --------------------------------------------------------------------------------------------------------

# A supervisor that already stopped a program says so with an error: what counts is what it says afterwards.
unsupervise() {
  local service; local -a programs=()
  for service in $(services_of "$job/containers" | tac); do programs+=("docker-$service"); done
  if [ "$supervisor" = systemd ]; then timeout 900 systemctl stop "${programs[@]/%/.service}" && return 0 || return 1; fi
  timeout 300 supervisorctl stop "${programs[@]}"
  ! timeout 60 supervisorctl status | grep -E '^docker-' | grep -E ' (RUNNING|STARTING|BACKOFF) '
}

supervise() {
  local service; local -a programs=()
  for service in $(services_of "$job/containers"); do programs+=("docker-$service"); done
  if [ "$supervisor" = systemd ]; then timeout 900 systemctl start "${programs[@]/%/.service}" && return 0 || return 1; fi
  timeout 300 supervisorctl start "${programs[@]}"
  timeout 60 supervisorctl status | grep -E '^docker-'
}

# Process 1 of the container doesn't pass SIGTERM on to postgres: ask postgres itself, or it is killed.
stop_postgres() {
  local name=$1 id pid parent try
  id=$(container_id "$name")
  for pid in $(pgrep -x 'postgres|postmaster'); do
    grep -q "$id" "/proc/$pid/cgroup" 2>/dev/null || continue
    parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status")
    case $(cat "/proc/$parent/comm" 2>/dev/null) in postgres|postmaster) continue ;; esac
    kill -INT "$pid"
    for ((try = 0; try < 300; try++)); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    return 1
  done
}

stop_all() {
  local name
  unsupervise || return 1
  while read -r _ name _; do
    case $name in *-postgres) is_running "$name" && { stop_postgres "$name" || note "postgres did not stop by itself"; } ;; esac
  done < "$job/before.containers"
  ctl stop all
}

# Where a container keeps the volume that it mounts at a path; the map was called `Volumes` before 1.8.
volume_path() {
  if at_least 1.8 "$docker"; then docker inspect -f '{{range .Mounts}}{{.Destination}} {{.Source}}{{"\n"}}{{end}}' "$1"
  else docker inspect -f '{{range $to, $from := .Volumes}}{{$to}} {{$from}}{{"\n"}}{{end}}' "$1"; fi | awk -v at="$2" '$1 == at { print $2; exit }'
}

# fill_volumes LIST FOLDER: puts what lies in FOLDER/MEMBER into the volumes of the containers that are there now.
fill_volumes() {
  local member service path name to
  [ -s "$1" ] || return 0
  while read -r member service path; do
    name=$(awk -v s="$service" '$1 == s { print $2; exit }' "$job/containers")
    ! is_running "$name" || timeout 300 docker stop "$name" >/dev/null || return 1
    to=$(volume_path "$name" "$path")
    case $to in /*/*) ;; *) echo "$name has no volume at $path"; return 1 ;; esac
    find "$to" -mindepth 1 -delete && cp -a "$2/$member/." "$to/" || return 1
  done < "$1"
  while read -r service; do ctl start "$service" || return 1; done < <(cut -d' ' -f2 "$1" | sort -u)
}

check_all() {
  local service name
  while read -r service name _; do
    timeout 600 dockerctl check "$service" </dev/null || { echo "dockerctl check $service failed"; return 1; }
    is_running "$name" || { echo "$name does not run"; return 1; }
    event "checked $service"
  done < "$job/containers"
  timeout 90 fuel task --list --json >/dev/null </dev/null
}

# ---- cutover ---------------------------------------------------------------------------------------------------------

keep_aside() {
  local service name image member path from
  while read -r service name image; do
    echo "${image}_before_$stock_id" >> "$job/images"
    timeout 900 docker commit "$name" "${image}_before_$stock_id" >/dev/null || return 1
  done < "$job/before.containers"
  while read -r member service path; do
    name=$(awk -v s="$service" '$1 == s { print $2; exit }' "$job/before.containers")
    from=$(volume_path "$name" "$path")
    case $from in /*/*) ;; *) echo "$name has no volume at $path"; return 1 ;; esac
    mkdir -p "$job/before/$member" && cp -a "$from/." "$job/before/$member/" || return 1
  done < "$job/before.volumes"
}

# The key that tanker came in with must still open the door afterwards.
keep_key() {
  local new directory keys
  [ "$key" != - ] || return 0
  # Who came in as another user, through sudo, has no key there to keep.
  grep -qF "$key" /root/.ssh/authorized_keys 2>/dev/null || return 0
  while read -r new directory; do
    [ "$directory" = /root/.ssh ] || continue
    keys=$new/authorized_keys
    grep -qF "$key" "$keys" 2>/dev/null && continue
    ends_in_newline "$keys" || echo >> "$keys" || return 1
    grep -F "$key" /root/.ssh/authorized_keys >> "$keys" || return 1
    chmod 600 "$keys"
  done < "$job/staged"
}

# The merged astute.yaml that tanker sent along takes the place of the staged one, whose owner and mode stay.
place_astute() {
  local new directory
  [ -f "$job/astute.yaml" ] || return 0
  while read -r new directory; do
    [ "$directory" != /etc/fuel ] || cat "$job/astute.yaml" > "$new/astute.yaml" || return 1
  done < "$job/staged"
}

ends_in_newline() { [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ]; }

# Each rename is written down before it happens, so that the way back knows how far it came.
swap_directories() {
  local new directory old
  while read -r new directory; do
    old="$(dirname "$directory")/.tanker-old-${job##*/}-$(basename "$directory")"
    echo "$new $directory $old" >> "$job/swapped"
    if [ -e "$directory" ]; then mv -T "$directory" "$old" || return 1; fi
    mv -T "$new" "$directory" || return 1
  done < "$job/staged"
}

unswap_directories() {
  local new directory old failed=0
  [ -f "$job/swapped" ] || return 0
  while read -r new directory old; do
    # Staged and in use at once: the swap of this one had not begun, or only its first half was done.
    [ -e "$new" ] || [ ! -e "$directory" ] || mv -T "$directory" "$new" || { failed=1; continue; }
    [ ! -e "$old" ] || mv -T "$old" "$directory" || failed=1
  done < <(tac "$job/swapped")
  return $failed
}

retag() {
  local service image from=$1; local -a force=()
  # Needed to replace a tag from 1.4 to 1.9, refused from 1.12.
  at_least 1.10 "$docker" || force=(-f)
  while read -r service _ image; do
    docker tag ${force[@]+"${force[@]}"} "${image}_$from" "$image:latest" || return 1
  done < "$2"
}

recreate() { ctl destroy all && ctl start all; }

# One part of the way back; a part that fails is said and doesn't keep the others from being tried.
undo() { "$@" || { undone=; note "putting back: $1 failed: $(last_words)"; }; }

roll_back() {
  undone=yes
  event "step rollback"
  undo unsupervise
  if [ -e "$job/replaced" ]; then
    undo ctl destroy all
    undo unswap_directories
    undo retag "before_$stock_id" "$job/before.containers"
    undo ctl start all
    undo fill_volumes "$job/before.volumes" "$job/before"
  else
    undo ctl stop all
    undo unswap_directories
    undo ctl start all
  fi
  undo supervise
  undo check_all
  if [ -n "$undone" ]; then rm -f "$job/cutover"; discard; event rolled-back
  else event "stuck the master could not be put back as it was: what was replaced is kept in $job and beside each directory as .tanker-old-*"; fi
}

# Everything that only served this restore.
discard() {
  local new directory old
  while read -r new directory old; do rm -rf --one-file-system "$new" "$old"; done < <(cat "$job/swapped" "$job/staged" 2>/dev/null)
  remove_images "$job" || note "temporary images could not be removed"
  rm -rf "$job/x" "$job/root" "$job/volume" "$job/before" "$job/archive.tar.lrz"
}

rules() { iptables-save 2>/dev/null | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//' -e 's/172\.17\.[0-9]*\.[0-9]*/CONTAINER/g' | sort; }

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  [ $code -ne 0 ] || return
  grep -q '^[0-9]* failed ' "$job/events" || event "failed $current_step stopped with code $code: $(last_words)"
  if [ -e "$job/touched" ]; then roll_back
  else rm -f "$job/cutover"; discard; event rolled-back; fi
}

main() {
  sign_job "$1"; begin_job
  stock_id=$2 supervisor=$3 key=$4
  : > "$job/cutover"
  trap on_exit EXIT
  trap 'exit 143' TERM INT HUP
  rules > "$job/rules.before"
  attempt keep_key
  attempt place_astute
  step stop
  : > "$job/touched"
  attempt stop_all
  step keep
  attempt keep_aside
  step swap
  attempt swap_directories
  step images
  : > "$job/replaced"
  attempt retag "$stock_id" "$job/containers"
  step start
  attempt recreate
  step volumes
  attempt fill_volumes "$job/volumes" "$job/volume"
  step supervise
  attempt supervise
  step check
  attempt check_all
  rules | cmp -s - "$job/rules.before" || note "the iptables rules differ from before: compare them with $job/rules.before"
  # It is done: from here on nothing may be put back.
  trap - EXIT; trap '' TERM INT HUP
  rm -f "$job/cutover"
  discard
  event finished
}
main "$@"
