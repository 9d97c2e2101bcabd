# The cutover of a restore (I4): stops, swaps, recreates, starts, checks, and puts everything back if any of it fails.
# It needs nobody to be connected. What it replaces is kept aside until the checks have passed, and what it is about to do
# is written down first: after a reboot half way it can be put back, or done again.
# usage: run.sh JOB forward STOCK_ID SUPERVISOR KEY READY      (in the folder that prepare.sh left)
#        run.sh JOB resume | rollback                          (of one that did not come to an end)
#   SUPERVISOR  supervisor | systemd: who restarts containers on this master
#   KEY         base64 of the public key that tanker came in with, or -
#   READY       seconds that the services have, together, to become ready
# containers: SERVICE NAME IMAGE of those to be replaced; volumes: MEMBER SERVICE PATH of those to be filled
# before.containers, before.volumes: the same of what is there now: all containers, the volumes that change

# ---- services --------------------------------------------------------------------------------------------------------

# Those that aren't there too: whoever supervises them would make them.
stop_all() {
  # shellcheck disable=SC2046 # a list of names
  stop_services "$supervisor" $(cut -d' ' -f2 "$job/everyone" | tac)
}

# supervise_all LIST: SERVICE NAME
supervise_all() {
  # shellcheck disable=SC2046 # a list of names
  supervise "$supervisor" $(cut -d' ' -f1 "$1")
}

# SERVICE NAME of the containers that were there and of those that the backup brings.
list_everyone() { everyone > "$job/everyone"; }
everyone() { cat "$job/before.containers" "$job/containers" | awk '!seen[$1]++ { print $1, $2 }'; }

# Is this service's container one of those that the restore makes anew?
is_replaced() { awk -v s="$1" '$1 == s { found = 1 } END { exit !found }' "$job/containers"; }

# Where a container keeps the volume that it mounts at a path; the map was called `Volumes` before 1.8.
volume_path() {
  if at_least 1.8 "$docker"; then docker inspect -f '{{range .Mounts}}{{.Destination}} {{.Source}}{{"\n"}}{{end}}' "$1"
  else docker inspect -f '{{range $to, $from := .Volumes}}{{$to}} {{$from}}{{"\n"}}{{end}}' "$1"; fi | awk -v at="$2" '$1 == at { print $2; exit }'
}

# fill_volumes LIST FOLDER: puts what lies in FOLDER/MEMBER into the volumes of the containers that are there now.
fill_volumes() {
  local member service path name to; local -a services=() names=()
  [ -s "$1" ] || return 0
  while read -r service; do
    services+=("$service") names+=("$(everyone | awk -v s="$service" '$1 == s { print $2; exit }')")
  done < <(cut -d' ' -f2 "$1" | sort -u)
  # Whoever started them may have handed them to their supervisor, which would start them again meanwhile.
  unsupervise "$supervisor" "${services[@]}" || return 1
  timeout 900 docker stop "${names[@]}" >/dev/null || return 1
  for name in "${names[@]}"; do ! is_running "$name" || { echo "$name doesn't stay stopped"; return 1; }; done
  while read -r member service path; do
    name=$(everyone | awk -v s="$service" '$1 == s { print $2; exit }')
    [ -d "$2/$member" ] || { echo "there is nothing to fill $path of $name from"; return 1; }
    to=$(volume_path "$name" "$path")
    case $to in /*/*) ;; *) echo "$name has no volume at $path"; return 1 ;; esac
    find "$to" -mindepth 1 -delete && cp -a "$2/$member/." "$to/" || return 1
  done < "$1"
  for service in "${services[@]}"; do ctl start "$service" || return 1; done
}

# check_all LIST: SERVICE NAME of those that must be ready.
check_all() {
  local service name deadline left count=0 total
  deadline=$(($(uptime_seconds) + ready))
  total=$(wc -l < "$1")
  while read -r service name; do
    until is_running "$name" && answers "$service" "$name" </dev/null; do
      [ "$(uptime_seconds)" -lt "$deadline" ] || { echo "$service was not ready within $ready s"; return 1; }
      sleep 0.2
    done
    # It waits by itself for as long as a service may take.
    left=$((deadline - $(uptime_seconds)))
    stock_check $((left > 60 ? left : 60)) "$service" || { echo "dockerctl check $service failed"; return 1; }
    count=$((count + 1))
    event "checked $count $total $service"
  done < "$1"
  # One that was up for a moment only is not up.
  name=$(not_running_of "$1") || return 1
  name=${name%%$'\n'*}
  [ -z "$name" ] || { echo "${name##* } has stopped again"; return 1; }
}

# A mark that can't be made would hide from the way back what it has to undo.
mark() { : > "$job/$1"; }

# ---- cutover ---------------------------------------------------------------------------------------------------------

# Of a container that is replaced, what it was. Docker works on all of them at once.
keep_aside() {
  local service name image member path from
  while read -r service name image; do
    is_replaced "$service" || continue
    echo "${image}_before_$stock_id" >> "$job/images" || return 1
    timeout 3600 docker commit "$name" "${image}_before_$stock_id" >/dev/null 9>&- & commits+=($!)
  done < "$job/before.containers"
  end_commits || return 1
  while read -r member service path; do
    name=$(awk -v s="$service" '$1 == s { print $2; exit }' "$job/before.containers")
    from=$(volume_path "$name" "$path")
    case $from in /*/*) ;; *) echo "$name has no volume at $path"; return 1 ;; esac
    rm -rf "$job/before/$member" && mkdir -p "$job/before/$member" && cp -a "$from/." "$job/before/$member/" || return 1
  done < "$job/before.volumes"
}

# The key that tanker came in with must still open the door afterwards, as it does now: sshd takes the first line with a key, whatever a later one
# allows it.
keep_key() {
  local new directory keys
  [ "$key" != - ] || return 0
  # Who came in as another user, through sudo, has no key there to keep.
  lines_with_key /root/.ssh/authorized_keys > "$job/key.lines"
  [ -s "$job/key.lines" ] || return 0
  while read -r new directory; do
    [ "$directory" = /root/.ssh ] || continue
    keys=$new/authorized_keys
    [ "$(lines_with_key "$keys" | head -n 1)" != "$(head -n 1 "$job/key.lines")" ] || continue
    { cat "$job/key.lines" && { [ ! -f "$keys" ] || cat "$keys"; }; } > "$job/keys" && cat "$job/keys" > "$keys" && chmod 600 "$keys" || return 1
  done < <(staged)
}
# Not those that are commented out.
lines_with_key() { grep -v '^[[:space:]]*#' "$1" 2>/dev/null | grep -F "$key"; }

# The merged astute.yaml that tanker sent along takes the place of the staged one, whose owner and mode stay.
place_astute() {
  local new directory
  [ -f "$job/astute.yaml" ] || return 0
  while read -r new directory; do
    [ "$directory" != /etc/fuel ] || cat "$job/astute.yaml" > "$new/astute.yaml" || return 1
  done < <(staged)
}
# The stock tool publishes its containers at this address, and asks there whether they are ready: it is the network's, and so this master's own.
place_admin_ip() {
  local new directory line
  line=$(grep '^ADMIN_IP=' /etc/dockerctl/config 2>/dev/null | tail -n 1)
  [ -n "$line" ] || return 0
  while read -r new directory; do
    [ "$directory" = /etc/dockerctl ] && [ -f "$new/config" ] || continue
    line=$line awk '/^ADMIN_IP=/ { $0 = ENVIRON["line"] } { print }' "$new/config" > "$job/config" && cat "$job/config" > "$new/config" || return 1
  done < <(staged)
}

# A backup need not have brought any directory.
staged() { [ ! -f "$job/staged" ] || cat "$job/staged"; }

# What was in use already is no backup any more: PostgreSQL and others have worked on it.
stage_again() {
  local new _
  [ -s "$job/directories" ] || { rm -f "$job/used"; return; }
  while read -r new _; do rm -rf --one-file-system "$new" || return 1; done < <(staged)
  rm -rf --one-file-system "$job/root" && : > "$job/staged" && unpack_tree system-dirs.tar "$job/root" && stage_directories && sync && rm -f "$job/used"
}

# A list that lost its lines would be a restore of nothing.
all_is_staged() {
  local directory
  while read -r directory; do
    [ "$directory" = /var/lib/fuel/keys ] || staged | grep -qxF "$(staged_at "$directory") $directory" || { echo "$directory is not staged"; return 1; }
  done < "$job/directories"
}

# All renames are written down, and on the disk, before the first happens: the way back knows what may have been done.
swap_directories() {
  local new directory old
  staged | while read -r new directory; do
    echo "$new $directory $(dirname "$directory")/.tanker-old-${job##*/}-$(basename "$directory")" || exit 1
  done > "$job/swapped" && sync || return 1
  while read -r new directory old; do
    if [ -e "$directory" ]; then mv -T "$directory" "$old" || return 1; fi
    mv -T "$new" "$directory" || return 1
  done < "$job/swapped"
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

# retag SUFFIX LIST: of the containers that are replaced.
retag() {
  local service image suffix=$1; local -a force=()
  # Needed to replace a tag from 1.4 to 1.9, refused from 1.12.
  at_least 1.10 "$docker" || force=(-f)
  while read -r service _ image; do
    is_replaced "$service" || continue
    docker tag ${force[@]+"${force[@]}"} "${image}_$suffix" "$image:latest" || return 1
  done < "$2"
}

# The stock tool calls it a failure to destroy what isn't there; one that can't be destroyed doesn't keep the others.
destroy_replaced() {
  local service left _
  present_of "$job/containers" > "$job/present" || return 1
  while read -r service _; do ctl destroy "$service"; done < <(tac "$job/present")
  left=$(present_of "$job/containers") || return 1
  [ -z "$left" ] || { echo "could not be destroyed: $(printf '%s\n' "$left" | cut -d' ' -f2 | tr '\n' ' ')"; return 1; }
}
recreate() { destroy_replaced && ctl start all; }

# What was stopped before a restore is stopped again where it is put back.
note_what_was_stopped() { not_running_of "$job/before.containers" > "$job/stopped"; }
# By the preparation, not long ago.
was_noted_lately() {
  local noted age
  [ "$mode" = forward ] && noted=$(cat "$job/noted" 2>/dev/null) || return 1
  # One from before a reboot lies in the future.
  age=$(($(uptime_seconds) - noted))
  [ "$age" -ge 0 ] && [ "$age" -lt 300 ]
}
# Not `start all`, which would make what wasn't there.
start_what_was_there() {
  local service failed=0 _
  while read -r service _; do
    # One that had stopped may have had its reasons.
    ctl start "$service" || grep -q "^$service " "$job/stopped" 2>/dev/null || failed=1
  done < "$job/before.containers"
  return $failed
}
stop_what_was_stopped() {
  [ -s "$job/stopped" ] || return 0
  # shellcheck disable=SC2046 # a list of names
  stop_services "$supervisor" $(cut -d' ' -f2 "$job/stopped" | tac)
}

# ---- the way back ----------------------------------------------------------------------------------------------------

# One part of the way back; a part that fails is said and doesn't keep the others from being tried.
undo() { "$@" || { undone=; note "putting back: $1 failed: $(last_words)"; }; }
# The same where nothing has been changed: what a supervisor that doesn't answer can't be told doesn't keep a master from being as it was.
tell() { "$@" || note "putting back: $1 failed: $(last_words)"; }

put_back() {
  undone=yes
  step rollback
  if [ -e "$job/replaced" ] && ! before_images_are_there; then note "$(last_words)"; stuck; return 1; fi
  local telling=tell
  if [ -e "$job/swapped" ] || [ -e "$job/replaced" ]; then telling=undo; fi
  $telling stop_all
  [ ! -e "$job/replaced" ] || undo destroy_replaced
  undo unswap_directories
  [ ! -e "$job/replaced" ] || undo retag "before_$stock_id" "$job/before.containers"
  undo start_what_was_there
  [ ! -e "$job/replaced" ] || undo fill_volumes "$job/before.volumes" "$job/before"
  # It is as it was. Where only the looking fails, a second try must not put back what people have done since.
  [ -z "$undone" ] || rm -f "$job/replaced" "$job/swapped"
  supervise_all "$job/before.containers" || note "not every service is supervised again: $(last_words)"
  $telling supervise_all "$job/working"
  undo check_all "$job/working"
  undo stop_what_was_stopped
  [ ! -s "$job/rules.before" ] || compare_rules
  [ -n "$undone" ] || { stuck; return 1; }
  rm -f "$job/touched"
}
before_images_are_there() {
  local service image _
  while read -r service _ image; do
    is_replaced "$service" || continue
    docker inspect "${image}_before_$stock_id" >/dev/null 2>&1 || { echo "the image that was kept of $service is gone: nothing is destroyed"; return 1; }
  done < "$job/before.containers"
}
stuck() { event "stuck the master could not be put back as it was: what was replaced is kept in $job and beside each directory as .tanker-old-*"; }

# Everything that only served this restore. It is over when the mark is gone.
discard() {
  rm -f "$job/cutover" "$job/prepared" && sync
  remove_staged "$job"
  remove_images "$job" || note "temporary images could not be removed"
  rm -rf "$job/x" "$job/root" "$job/volume" "$job/before" "$job/archive.tar.lrz"
}

# Of a part that is restored, the rest need not do what it didn't do before.
what_must_work() { awk 'NR == FNR { must[$1] = 1; next } $1 in must' <(cut -d' ' -f1 "$job/containers" "$job/working") "$job/everyone" > "$job/must"; }

rules() { iptables-save 2>/dev/null | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//' -e 's/172\.17\.[0-9]*\.[0-9]*/CONTAINER/g' | sort; }

# The folder goes with the job: what differs is said.
compare_rules() {
  local differ
  differ=$(rules | diff "$job/rules.before" - | grep '^[<>]' | head -n 20 | cut -c1-160)
  [ -z "$differ" ] || note "the iptables rules are not those of before (<: before, >: now): ${differ//$'\n'/; }"
}

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  [ $code -ne 0 ] || return
  say_failure "stopped with code $code: $(last_words)"
  # Docker goes on with commits that were begun, and their images would come when nobody knows of them any more.
  if [ "$current_step" = keep ]; then end_commits; leave_orphans; fi
  # The way back was tried and is to be looked at by somebody.
  [ "$mode" != rollback ] && [ -z "${undone+tried}" ] || return
  if [ -e "$job/touched" ]; then put_back || return; fi
  discard
  event rolled-back
}

# Nothing has been done yet, so nothing has to be put back.
not_begun() { rm -f "$job/cutover"; say_failure "$1"; event rolled-back; exit 1; }

cut_over() {
  rules > "$job/rules.before"
  attempt note_what_was_stopped
  was_noted_lately || attempt note_what_works
  attempt list_everyone
  attempt all_is_staged
  attempt keep_key
  attempt place_astute
  attempt place_admin_ip
  # What was staged and loaded must survive a power cut from here on.
  sync
  step stop
  attempt mark touched
  attempt stop_all
  step keep
  attempt keep_aside
  step swap
  attempt swap_directories
  step images
  attempt mark used
  attempt mark replaced
  sync
  attempt retag "$stock_id" "$job/containers"
  step start
  attempt recreate
  step volumes
  attempt fill_volumes "$job/volumes" "$job/volume"
  step supervise
  attempt supervise_all "$job/everyone"
  step check
  attempt what_must_work
  attempt check_all "$job/must"
  compare_rules
}

main() {
  sign_job "$1"; begin_job
  mode=$2
  # Somebody may have taken a preparation for an abandoned one while the line was down.
  [ "$mode" != forward ] || [ -e "$job/prepared" ] || not_begun "what was prepared for it is not there any more: run the restore again"
  # Marks that an earlier run of the same restore left, which ended well, would mislead the way back.
  [ "$mode" != forward ] || { rm -rf "$job/touched" "$job/replaced" "$job/used" "$job/swapped" "$job/before" && printf '%s\n' "${@:3}" > "$job/parameters" && sync && mark cutover; } || not_begun "the spool can't be written"
  { read -r stock_id && read -r supervisor && read -r key && read -r ready; } < "$job/parameters" || fail "the half done restore in $job has no parameters"
  trap on_exit EXIT
  trap 'exit 143' TERM INT HUP
  if [ "$mode" != forward ] && [ -e "$job/touched" ]; then put_back || fail "it could not be put back: $(last_words)"; fi
  unset undone
  if [ "$mode" = rollback ]; then
    discard; event rolled-back
  else
    if [ -e "$job/used" ]; then step stage; attempt stage_again; fi
    cut_over
    # It is done: from here on nothing may be put back.
    trap - EXIT; trap '' TERM INT HUP
    discard
  fi
  event finished
}
main "$@"
