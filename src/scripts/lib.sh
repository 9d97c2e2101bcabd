# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts behind it use what is set here
# What the scripts share that work with Docker, containers and jobs. It stands behind base.sh.

# at_least 1.3 1.10.2: is the second version the first or later?
at_least() {
  local i IFS=.
  # No here-string: a bash of old writes them to /tmp, and nothing that thaws may depend on room there.
  # shellcheck disable=SC2206 # to be split
  local -a want=($1) have=($2)
  for ((i = 0; i < ${#want[@]}; i++)); do
    [ "${have[i]:-0}" -eq "${want[i]}" ] 2>/dev/null && continue
    # A bare `return` inside a trap would give the status from before the trap.
    if [ "${have[i]:-0}" -gt "${want[i]}" ] 2>/dev/null; then return 0; else return 1; fi
  done
  return 0
}
docker_version() { docker -v 2>/dev/null | sed -n 's/^Docker version \([0-9][0-9.]*\).*/\1/p'; }

# The `Id` of the container, spelt `ID` before 1.0.
container_id() { docker inspect "$1" 2>/dev/null | sed -n 's/^ *"I[Dd]": "\([0-9a-f]*\)".*/\1/p' | head -n 1; }

is_running() { [ "$(timeout 60 docker inspect -f '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }

# The names of the containers that run, with -a of all: one call of Docker's client, whose start is what takes the time.
container_names() {
  local said
  said=$(timeout 60 docker ps --no-trunc "$@") || { echo "Docker doesn't answer" >&2; return 1; }
  # Old ones name a container also as the others that are linked to it do.
  printf '%s\n' "$said" | awk 'NR == 1 { if ($NF != "NAMES") exit 1; next } { n = split($NF, names, ","); for (i = 1; i <= n; i++) print names[i] }' ||
    { echo "Docker lists its containers in a form of its own" >&2; return 1; }
}
# The lines of a list, SERVICE NAME and more, whose container runs, doesn't run, is there.
running_of() { by_container 1 "$1"; }
not_running_of() { by_container 0 "$1"; }
present_of() { by_container 1 "$1" -a; }
by_container() {
  local wanted=$1 list=$2 names; shift 2
  names=$(container_names "$@") || return 1
  awk -v wanted="$wanted" 'NR == FNR { there[$1] = 1; next } ($2 in there) == wanted' <(printf '%s\n' "$names") "$list"
}

# The cgroup of a process in the freezer hierarchy: where `docker pause` writes too.
freezer_of() {
  local path mount
  [ "${1:-0}" -gt 0 ] 2>/dev/null || return 1
  path=$(sed -n 's/^[0-9]*:\([^:]*,\)\{0,1\}freezer\(,[^:]*\)\{0,1\}:\(.*\)$/\3/p' "/proc/$1/cgroup" 2>/dev/null | head -n 1)
  [ -n "$path" ] && [ "$path" != / ] || return 1
  mount=$(awk '$3 == "cgroup" && $4 ~ /(^|,)freezer(,|$)/ { print $2; exit }' /proc/mounts)
  [ -n "$mount" ] && [ -e "$mount$path/freezer.state" ] || return 1
  echo "$mount$path/freezer.state"
}

# For each of these containers: its name, whether Docker calls it paused, the file that freezes it (- where there is none).
# One call of Docker for all of them: the freeze lasts as long as this is slow.
survey() {
  local name paused pid field='{{.State.Paused}}'
  [ $# -gt 0 ] || return 0
  # Docker knows of pausing from 0.12 on; before that there is only the kernel to ask.
  at_least 0.12 "${docker:=$(docker_version)}" || field=false
  timeout 60 docker inspect -f "{{.Name}} $field {{.State.Pid}}" "$@" 2>/dev/null | while read -r name paused pid; do
    echo "${name#/} $paused $(freezer_of "$pid" || echo -)"
  done
}

# Is what a line of the job's list names frozen? The kernel's word counts, which needs no Docker. Where there is no such file,
# Docker is asked, and no answer counts as frozen.
is_frozen() {
  if [ "$2" = stopped ]; then
    ! is_running "$1"
  elif [ "$2" != - ]; then
    # A cgroup that is gone holds nobody.
    [ -e "$2" ] && [ "$(cat "$2" 2>/dev/null)" != THAWED ]
  # Such a Docker has nothing else to freeze by.
  elif [ -n "${docker:=$(docker_version)}" ] && ! at_least 0.12 "$docker"; then
    return 1
  else
    [ "$(timeout 20 docker inspect -f '{{.State.Paused}}' "$1" 2>/dev/null)" != false ]
  fi
}

# The same for a capture: what the kernel is still freezing is not frozen, and has a moment to become so.
is_wholly_frozen() {
  local try
  case $2 in stopped|-) is_frozen "$1" "$2"; return $? ;; esac
  for ((try = 0; try < 20; try++)); do
    case $(cat "$2" 2>/dev/null) in FROZEN) return 0 ;; FREEZING) sleep 0.05 ;; *) break ;; esac
  done
  return 1
}

# Thaws what the job's list of frozen containers names and looks whether it is thawed. Prints those that stay frozen, or of
# which nobody knows. What Docker paused it is asked to thaw first, for its own books; it has three seconds before the kernel
# is told directly, for it may be hung. What was stopped is started in order.
thaw_listed() {
  local try name freezer stuck n; local -a lines
  for try in 0 1 2 3 4; do
    stuck=$(listed_frozen "$1")
    [ -n "$stuck" ] || { resupervise_listed "$1"; return $?; }
    if [ "$try" = 0 ] && paused_by_docker "$1"; then ask_docker_to_thaw "$1" "$stuck"; continue; fi
    [ "$try" -lt 2 ] || sleep "0.$try"
    # Backwards without `tac`, which puts what comes through a pipe into /tmp first.
    lines=()
    while read -r name freezer; do lines+=("$name $freezer"); done < <(printf '%s\n' "$stuck")
    for ((n = ${#lines[@]} - 1; n >= 0; n--)); do
      name=${lines[n]%% *} freezer=${lines[n]#* }
      if [ "$freezer" = stopped ]; then ctl start "$(service_of "$name")" >/dev/null 2>&1
      elif [ "$freezer" != - ]; then echo THAWED > "$freezer"
      else timeout 20 docker unpause "$name" >/dev/null 2>&1; fi
    done
  done
  stuck=$(listed_frozen "$1")
  [ -n "$stuck" ] || { resupervise_listed "$1"; return $?; }
  echo "$stuck" | cut -d' ' -f1
  return 1
}
# Says so in a way that a caller can act on: which containers, and how they were frozen.
emit_frozen() { emit frozen "$2"; emit method "$(cat "$1/method" 2>/dev/null)"; }
listed_frozen() {
  local name freezer
  [ -s "$1/frozen" ] || return 0
  while read -r name freezer; do ! is_frozen "$name" "$freezer" || echo "$name $freezer"; done < "$1/frozen"
}
# From 1.6 on `docker pause` and `unpause` take several names; before, they print usage, do nothing and end with 0.
takes_several() { at_least 1.6 "${docker:=$(docker_version)}"; }
paused_by_docker() { [ "$(cat "$1/method" 2>/dev/null)" = pause ]; }
# by_each_core SECONDS VERB CONTAINER...: Docker does it to one after another of a call's, so there is a call for each core.
by_each_core() {
  local limit=$1 verb=$2 hands n i; local -a pids=() own; shift 2
  hands=$(nproc 2>/dev/null || echo 2)
  [ "$hands" -le 4 ] || hands=4
  for ((n = 0; n < hands && n < $#; n++)); do
    own=()
    for ((i = n + 1; i <= $#; i += hands)); do own+=("${!i}"); done
    timeout "$limit" docker "$verb" "${own[@]}" >/dev/null 2>&1 & pids+=($!)
  done
  wait "${pids[@]}"
}
ask_docker_to_thaw() {
  local name try; local -a names=() pids=()
  while read -r name _; do names+=("$name"); done < <(printf '%s\n' "$2")
  if takes_several; then by_each_core 20 unpause "${names[@]}" & pids+=($!)
  else for name in "${names[@]}"; do timeout 20 docker unpause "$name" >/dev/null 2>&1 & pids+=($!); done; fi
  for ((try = 0; try < 60; try++)); do
    [ -n "$(listed_frozen "$1")" ] || { wait "${pids[@]}"; return $?; }
    sleep 0.05
  done
}

# Is the freeze of a job over, so that what is paused by now is somebody else's? Only where its capture came to its own thaw: before that a pause
# that Docker was slow to take can still come.
is_over() { [ -e "$1/captured" ] && [ -e "$1/settled" ]; }

# The freeze is over for good when Docker, too, calls no container paused: until then it refuses to stop or enter one.
settle_listed() {
  local try name freezer code paused=; local -a names=()
  [ ! -e "$1/settled" ] || return 0
  if [ -s "$1/frozen" ] && paused_by_docker "$1"; then
    while read -r name _; do names+=("$name"); done < "$1/frozen"
    for try in 0 1 2; do
      paused=$(timeout 30 docker inspect -f '{{.Name}} {{.State.Paused}}' "${names[@]}" 2>/dev/null)
      code=$?
      # From 1.10 on it ends at the first name that it doesn't know.
      [ $code -ne 1 ] || paused=$(for name in "${names[@]}"; do timeout 30 docker inspect -f '{{.Name}} {{.State.Paused}}' "$name" 2>/dev/null; done)
      # Another code than 0 also means that one of them is gone: that is no reason to wait for it.
      if [ $code -eq 124 ] || { [ $code -ne 0 ] && ! timeout 30 docker ps >/dev/null 2>&1; }; then paused="no answer"; sleep "$try"; continue; fi
      paused=$(printf '%s\n' "$paused" | sed -n 's/^\/\(.*\) true$/\1/p')
      [ -n "$paused" ] || break
      while read -r name freezer; do ! printf '%s\n' "$paused" | grep -xF "$name" >/dev/null || unpause_in_the_books "$name" "$freezer"; done < "$1/frozen"
    done
    [ -z "$paused" ] || { echo "containers run again, but Docker doesn't answer or still calls them paused"; return 1; }
  fi
  : > "$1/settled"
}
# Docker unpauses only what the kernel has frozen. What was thawed behind its back is frozen once more, for as long as that
# takes; somebody who needs neither this script nor Docker ends it in any case.
unpause_in_the_books() {
  local rescuer
  timeout 20 docker unpause "$1" >/dev/null 2>&1 && return 0
  [ "$2" != - ] || return 0
  # shellcheck disable=SC2016 # the inner shell expands it
  setsid bash -c 'sleep 5; echo THAWED > "$1"' thaw "$2" </dev/null >/dev/null 2>&1 9>&- &
  rescuer=$!
  echo FROZEN > "$2"
  timeout 4 docker unpause "$1" >/dev/null 2>&1
  # In five seconds it could be another backup's freeze that is ended.
  if echo THAWED > "$2"; then kill -KILL "$rescuer" 2>/dev/null; fi
}

# Where containers were stopped to freeze them, their supervisor was told so; it is part of the thaw to tell it again.
resupervise_listed() {
  local name _; local -a services=()
  [ -s "$1/unsupervised" ] || return 0
  while read -r name _; do services+=("$(service_of "$name")"); done < <([ ! -s "$1/frozen" ] || tac "$1/frozen")
  if supervise "$(cat "$1/unsupervised")" ${services[@]+"${services[@]}"} >/dev/null 2>&1; then rm -f "$1/unsupervised"; return 0; fi
  echo "supervisor"
  return 1
}

# Ends every process of a job, those that `timeout` put into groups of their own too; its watchdog has another session.
end_job() {
  local pid try
  read -r pid _ 2>/dev/null < "$1/pid" || return 0
  job_alive "$1" || return 0
  pkill -TERM -s "$pid"
  for ((try = 0; try < 400; try++)); do job_alive "$1" || return 0; sleep 0.1; done
  pkill -KILL -s "$pid"
  sleep 0.2
}

# Is somebody reading? One whose line is dead hangs in a write for hours, and counts as gone: nothing of it moves.
being_read() {
  local pid start before
  read -r pid start 2>/dev/null < "$1/reader" || return 1
  is_still "$pid" "$start" || return 1
  before=$(cat "/proc/$pid/io" "/proc/$pid/stat" 2>/dev/null)
  sleep 4
  [ "$(cat "/proc/$pid/io" "/proc/$pid/stat" 2>/dev/null)" != "$before" ]
}

# Does its owner come by again? Between two reads nobody reads, and what went out in one go is still on its way when its reader has ended.
is_attended() {
  local lease age
  lease=$(cat "$1/lease" 2>/dev/null) || return 1
  # One from before a reboot lies in the future.
  while age=$(($(uptime_seconds) - lease)); [ "$age" -ge 0 ] && [ "$age" -lt 15 ]; do
    sleep 1
    [ "$(cat "$1/lease" 2>/dev/null)" = "$lease" ] || return 0
  done
  return 1
}

# Who waits to read a job's pipe that nobody will write any more reads its end; nobody else comes to read it.
release_pipe() { [ ! -p "$1/pipe" ] || { : 3<>"$1/pipe"; rm -f "$1/pipe"; }; }

# child PID: how a process that was begun in the background is remembered: when it has ended its number may be another one's.
child() { echo "$1 $(process_start "$1")"; }
# kill_child CHILD: if it is still that one.
# shellcheck disable=SC2086 # two words
kill_child() { ! is_still $1 || kill_tree "${1%% *}"; }
# A process and everything that it has started.
kill_tree() {
  local child
  for child in $(pgrep -P "$1"); do kill_tree "$child"; done
  kill -KILL "$1" 2>/dev/null
}

# The far end of a broken line can go on waiting for hours: who pushes again, or cleans up, ends it.
end_receivers() {
  local file pid start _
  for file in "$1"/receiver.*; do
    read -r pid start _ 2>/dev/null < "$file" || continue
    kill_child "$pid $start"
    rm -f "$file"
  done
  return 0
}

# receives JOB [EXCEPT]: does anybody take in what is pushed into this job? EXCEPT is a process that doesn't count.
receives() {
  local file pid start _
  for file in "$1"/receiver.*; do
    [ "$file" != "$1/receiver.${2:-}" ] || continue
    if read -r pid start _ 2>/dev/null < "$file" && is_still "$pid" "$start"; then return 0; fi
  done
  return 1
}

# Between two steps of a restore there is neither a receiver nor a job for a moment.
being_pushed() {
  local lease
  # Its cutover has been, and is over.
  [ ! -e "$1/parameters" ] || return 1
  ! receives "$1" || return 0
  lease=$(cat "$1/lease" 2>/dev/null) || lease=0
  lease=$(($(uptime_seconds) - lease))
  # One from before a reboot lies in the future.
  [ "$lease" -ge 0 ] && [ "$lease" -lt 20 ]
}

# What a restore staged beside the directories in use, and what it kept of those it replaced.
remove_staged() {
  local new old _
  # While the mark stands, what was replaced is the only copy.
  [ ! -e "$1/cutover" ] || return 0
  while read -r new _ old; do rm -rf --one-file-system "$new" ${old:+"$old"}; done < <(cat "$1/swapped" "$1/staged" 2>/dev/null)
}

read_words() { local word; eval "$1=()"; while read -r word; do eval "$1+=(\"\$word\")"; done; }

# Docker goes on with a commit though its client was ended: what can still come is written down where it outlives the job.
# shellcheck disable=SC2154 # job is set by who calls it
leave_orphans() { awk -v now="$(date +%s)" '{ print now, $1 }' "$job/images" >> "$tanker_root/orphans"; }
# Removes those that have come, for a few seconds: somebody waits. Which of the others never will shows after a day. Needs the master's lock.
remove_orphans() {
  local since image began list=$tanker_root/orphans
  began=$(uptime_seconds)
  [ -s "$list" ] && timeout 10 docker ps >/dev/null 2>&1 || return 0
  while read -r since image; do
    # Ids come again: what another job has brought under this name is that job's.
    ! grep -qxF "$image" "$tanker_root"/*/images 2>/dev/null || continue
    if [ $(($(uptime_seconds) - began)) -lt 15 ] && timeout 10 docker inspect "$image" >/dev/null 2>&1 &&
      timeout 20 docker rmi "$image" >/dev/null 2>&1; then continue; fi
    [ $(($(date +%s) - since)) -ge 86400 ] || echo "$since $image"
  done < "$list" > "$list.new" && mv "$list.new" "$list"
  [ -s "$list" ] || rm -f "$list"
}

remove_images() {
  local name image failed=0; local -a images=()
  # A drill's container holds the image that it runs from, also after the master was restarted. One that never came to be can't be removed.
  if read -r name 2>/dev/null < "$1/throwaway"; then timeout 120 docker rm -f -v "$name" >/dev/null 2>&1; fi
  [ -s "$1/images" ] || return 0
  # One that isn't there and a Docker that doesn't answer look alike below.
  docker_answers || return 1
  read_words images < "$1/images"
  [ ${#images[@]} -gt 0 ] || return 0
  # One call, for the start of Docker's client is what takes the time.
  # Whoever cleans up later has nothing to ask Docker for.
  timeout 1800 docker rmi "${images[@]}" >/dev/null 2>&1 && { rm -f "$1/images"; return 0; }
  # One that isn't there is no failure: each is asked for, for Docker from 1.10 on ends `inspect` at the first name that it doesn't know.
  for image in "${images[@]}"; do ! timeout 60 docker inspect "$image" >/dev/null 2>&1 || failed=1; done
  [ $failed = 0 ] && docker_answers
}
docker_answers() { timeout 60 docker ps >/dev/null 2>&1 || { echo "Docker doesn't answer"; return 1; }; }

# What prints the SHA-256 of its stdin as sha256sum does, in `hasher`. OpenSSL's takes a third of the time: of a large archive that is most of what
# tanker waits for when it is packed. One that doesn't know its way with nothing isn't asked for more.
find_hasher() {
  local of_nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  hasher=sha256sum
  [ "$(openssl dgst -sha256 -r < /dev/null 2>/dev/null)" != "$of_nothing *stdin" ] || hasher='openssl dgst -sha256 -r'
}
