# The backup, as it runs on the master: live pass, freeze, what changed, thaw, pack. It needs nobody to be connected,
# except that it freezes only while somebody renews its lease.
# usage: run.sh JOB STOCK_ID MODE FREEZE FREEZE_TIMEOUT LEASE IMAGES_FORM SUPERVISOR SPOOL     (and the files containers, trees, dump.name, images.bytes: of all and of the largest)
#   FREEZE          pause | cgroup | stop | none
#   FREEZE_TIMEOUT  seconds after which the watchdog thaws and the capture is void
#   LEASE           seconds without renewal after which it does the same
#   IMAGES_FORM     separate (one tar an image, to 6.0) | together (docker-images.tar, from 6.1)
#   SUPERVISOR      supervisor | systemd: who restarts containers on this master
#   SPOOL           spool (pack here) | pipe (no room here: tanker reads each member from a pipe as it comes, and packs)
# containers: a line each, in start order: NAME IMAGE STATE SAVE; STATE is `freeze` or `keep` (it didn't run), SAVE is `image` or
#   `no-image`
# trees: a line each: MEMBER ROOT PATH..., host directories and volumes that are taken in two passes
# MODE is `backup`; `watchdog` and `guard` are those of the timers.

# ---- members ---------------------------------------------------------------------------------------------------------

# into_member NAME COMMAND...: what a command prints becomes a member of the archive, in the spool, or at once at tanker's end of a pipe.
into_member() {
  local name=$1 sum; local -a codes
  shift
  if [ "$spool" = spool ]; then "$@" > "$job/a/$name"; return; fi
  rm -f "$job/pipe" && mkfifo "$job/pipe" || return 1
  event "member $name"
  "$@" | tee "$job/pipe" | sha256sum > "$job/sum"
  codes=("${PIPESTATUS[@]}")
  rm -f "$job/pipe"
  [ "${codes[1]}${codes[2]}" = 00 ] || { echo "nobody reads what is sent" >> "$job/log"; return 1; }
  [ "${codes[0]}" -eq 0 ] || return "${codes[0]}"
  read -r sum _ < "$job/sum"
  event "sent $name $sum"
}

# ---- capture ---------------------------------------------------------------------------------------------------------

# What a tree looks like now: one line a file, newlines in names turned into NUL so that line tools can work on it.
list_tree() {
  local root=$1 said=$job/find.said.$BASHPID; local -a codes; shift
  # What a list lacks counts as removed: one that is not whole fails the backup.
  (cd "$root" || exit 9; find "$@" -xdev ! -type s -printf '%i %n %s %T@ %C@ %m %U %G %y %p\0') 2>"$said" | tr '\0\n' '\n\0' | sort
  codes=("${PIPESTATUS[@]}")
  cat "$said" >&2
  [ "${codes[1]}${codes[2]}" = 00 ] && { [ "${codes[0]}" -eq 0 ] || { [ "${codes[0]}" -eq 1 ] && only_vanished "$said"; }; }
}
# Whether what find or tar complained of is only what goes on in a tree that is in use.
only_vanished() {
  ! grep -qv -e ': No such file or directory$' -e ': File removed before we read it$' -e ': file changed as we read it$' -e ': File shrank by ' \
    -e ': socket ignored$' -e ': Exiting with failure status' "$1"
}
paths_of() { cut -d' ' -f10-; }

# tar's exit code 1 means that a file changed or vanished while it was read: the frozen pass takes it again. One that becomes far larger than
# what was listed is at fault itself: tar before 1.31 writes for ever where a file with holes is cut off under it.
tar_live() {
  local most=$1; shift
  (ulimit -f "$most" && exec tar "$@") 2>>"$job/log" || [ $? -le 1 ]
}

live_pass() {
  local member=$1 root=$2; shift 2
  list_tree "$root" "$@" > "$job/$member.before" || return 1
  # Longer than a tick of the kernel's clock: what changes after tar has read it shows another time than the list.
  sleep 0.05
  into_member "$member" tar_live "$(most_of "$job/$member.before")" "${tar_flags[@]}" --one-file-system -cf - -C "$root" "$@"
}

# In KiB: twice what is listed, what heads and names take, and a GiB that it may grow by meanwhile.
most_of() { awk '{ sum += $3 } END { printf "%d", 2 * sum / 1024 + 8 * NR + 1048576 }' "$1"; }

frozen_pass() {
  local member=$1 root=$2 code; shift 2
  list_tree "$root" "$@" > "$job/$member.after" || return 1
  changed_of "$member" > "$job/$member.changed" || return 1
  [ -s "$job/$member.changed" ] || return 0
  # A tar of old takes a backslash in a name for the beginning of an escape, unless it is told not to.
  tar "${tar_flags[@]}" -cf "$job/$member.delta" -C "$root" --null --no-unquote --no-recursion -T "$job/$member.changed" 2>"$job/$member.said"
  code=$?
  cat "$job/$member.said" >&2
  [ $code -gt 1 ] || return 0
  # Host processes are not frozen: what they removed between list and tar is told by a third look.
  only_vanished "$job/$member.said" && list_tree "$root" "$@" > "$job/$member.after"
}

# All trees at once: most are small, and it is the programs' starts that take their time.
frozen_passes() {
  local n failed=; local -a words pids=() members=()
  while read -r -a words; do
    frozen_pass "${words[@]}" > "$job/${words[0]}.pass" 2>&1 9>&- & pids+=($!) members+=("${words[0]}")
  done < "$job/trees"
  for ((n = 0; n < ${#pids[@]}; n++)); do
    wait "${pids[n]}" || failed=${members[n]}
    cat "$job/${members[n]}.pass"
  done
  [ -z "$failed" ] || fail "the frozen pass of $failed failed: $(words_of "$job/$failed.pass")"
}

# For two minutes at most; one that hangs in the kernel can't be ended.
settle_disk() {
  local try pid
  sync </dev/null >/dev/null 2>&1 9>&- & pid=$!
  for ((try = 0; try < 600; try++)); do kill -0 $pid 2>/dev/null || return 0; sleep 0.2; done
}

# ---- prediction ------------------------------------------------------------------------------------------------------

# What the live pass took, and what the containers have written into their own layers, which nobody knows beforehand.
measure() {
  live_bytes=$(stat -c %s "$job"/a/* 2>/dev/null | awk '{ sum += $1 } END { printf "%d", sum }')
  layers=$(layer_bytes) || { layers=0; note "Docker doesn't say how much the containers have written: the prediction leaves it out"; }
}
# What is yet to be written beside what is there. To the spool: what has changed, the images into the tar, and the archive, which is taken to be no
# smaller than the tar; with `--no-spool`, only what has changed. To Docker's disk: the containers' own layers, once more each.
enough_room() {
  local free docker_free need docker_need changed images largest
  read -r images largest < "$job/images.bytes"
  changed=$(awk '{ sum += $1 } END { printf "%d", sum }' "$job/changed.bytes")
  need=$((2 * changed))
  [ "$spool" = pipe ] || need=$((need + 2 * (images + layers) + live_bytes))
  need=$((need / 1048576 + 16)) docker_need=$((layers / 1048576 + 64))
  free=$(free_mib "$job") docker_free=$(free_mib /var/lib/docker)
  if [ "$(stat -c %d "$job")" = "$(stat -c %d /var/lib/docker)" ]; then need=$((need + docker_need)); docker_need=0; fi
  [ "$free" -ge "$need" ] || fail "the spool has $free MiB free and the rest of the backup needs up to $need: nothing was frozen$([ "$spool" = pipe ] || echo " ('--no-spool' packs on the workstation instead)")"
  fits_in_tmp $((largest + layers)) || fail "nothing was frozen: $(last_words)"
  [ "$docker_free" -ge "$docker_need" ] || fail "/var/lib/docker has $docker_free MiB free and the containers' own layers need up to $docker_need: nothing was frozen"
}

# What the freeze will have to do, from what was seen live: list the trees again, copy what has changed in them and in the
# containers at the rate of the live pass, and call Docker for each container.
predict() {
  local began listed client changed rate
  began=$(now_ms)
  each_tree count_changed
  listed=$(($(now_ms) - began))
  began=$(now_ms)
  timeout 60 docker inspect "$(head -n 1 "$job/containers" | cut -d' ' -f1)" >/dev/null
  client=$(($(now_ms) - began))
  changed=$(awk '{ sum += $1 } END { printf "%d", sum }' "$job/changed.bytes")
  # Bytes a millisecond, 5 MB/s at least: a small live pass says little about the disk.
  rate=$((live_bytes / (live_ms + 1)))
  # What went through a pipe says how fast the line is, not the disk.
  [ "$spool" = spool ] || rate=$(disk_rate)
  [ "$rate" -gt 5000 ] || rate=5000
  # All are paused, committed and thawed at once, which costs about a third of doing it one by one.
  predicted=$((listed + (layers + changed) / rate + 3 * client * ($(wc -l < "$job/containers") + 2) / 3))
  event "predicted $predicted"
}
# In bytes a millisecond, of a few MiB written to the disk.
disk_rate() {
  local began
  began=$(now_ms)
  dd if=/dev/zero of="$job/rate" bs=65536 count=128 conv=fsync 2>/dev/null
  rm -f "$job/rate"
  echo $((8388608 / ($(now_ms) - began + 1)))
}
count_changed() {
  local member=$1 root=$2; shift 2
  list_tree "$root" "$@" | comm -13 "$job/$member.before" - | awk '{ sum += $3 } END { printf "%d\n", sum }' >> "$job/changed.bytes"
}
# What `docker ps -s` calls the size of a container, its own layer, in whatever unit it prints.
layer_bytes() {
  local listing
  listing=$(timeout 300 docker ps -a -s --no-trunc 2>>"$job/log") || return 1
  grep -F -f <(awk '$4 == "image" { print $1 }' "$job/containers") <<< "$listing" | grep -o '[0-9.]* *[kKMGT]*B (virtual' | tr -d ' ' | awk '
    { unit = $0; sub(/^[0-9.]*/, "", unit); factor["B"] = 1; factor["k"] = factor["K"] = 1e3; factor["M"] = 1e6; factor["G"] = 1e9; factor["T"] = 1e12
      sum += $0 * factor[substr(unit, 1, 1)] } END { printf "%d", sum }'
}

# ---- two passes into one ---------------------------------------------------------------------------------------------

# Names of what the frozen pass found otherwise than the live one, each ended by NUL; and of what it no longer found. A list that could not be
# written whole would leave out what changed, or a folder in the place of what was deleted in it.
changed_of() (set -o pipefail; comm -13 "$job/$1.before" "$job/$1.after" | paths_of | tr '\0\n' '\n\0')
deleted_of() (
  set -o pipefail
  for look in before after; do paths_of < "$job/$1.$look" | sort > "$job/$1.names.$look" || exit 1; done
  comm -23 "$job/$1.names.before" "$job/$1.names.after" | tr '\0\n' '\n\0' && rm -f "$job/$1".names.*
)

# Puts the second pass behind the first, in place: cuts the zero blocks that end the first tar, appends the second.
join_passes() {
  local member=$1 end
  deleted_of "$member" > "$job/a/$member.deleted" || return 1
  [ -s "$job/a/$member.deleted" ] || rm -f "$job/a/$member.deleted"
  [ -s "$job/$member.delta" ] || return 0
  end=$(tar -tRf "$job/a/$member" 2>>"$job/log" | sed -n 's/^block \([0-9]*\): \*\* Block of NULs \*\*$/\1/p' | tail -n 1)
  [ -n "$end" ] || return 1
  truncate -s $((end * 512)) "$job/a/$member" && cat "$job/$member.delta" >> "$job/a/$member" && rm -f "$job/$member.delta"
}

each_tree() {
  local verb=$1; local -a words
  while read -r -a words; do
    "$verb" "${words[@]}" || fail "$verb of ${words[0]} failed: $(last_words)"
  done < "$job/trees"
}

# Through `awk`, for a dump that was cut off in the middle ends like any other.
dump_database() {
  # shellcheck disable=SC2016 # the container's shell expands it
  in_container "$1" /bin/sh -c 'for d in /usr/pgsql-*/bin /usr/lib/postgresql/*/bin /usr/bin; do [ -x $d/pg_dumpall ] && exec su postgres -s /bin/sh -c $d/pg_dumpall; done; echo "no pg_dumpall" >&2; exit 1' 2>>"$job/dump.log" |
    awk '{ print } /PostgreSQL database cluster dump complete/ { whole = 1 } END { exit !whole }'
  case "${PIPESTATUS[*]}" in "0 0") ;; "0 "*) echo "the dump has no end" >> "$job/dump.log"; return 1 ;; *) return 1 ;; esac
}

# The database's processor and the trees' disk work at once; through a pipe one goes after the other.
begin_dump() {
  if [ "$spool" = pipe ]; then into_member "$(cat "$job/dump.name")" dump_database "$postgres"; return; fi
  into_member "$(cat "$job/dump.name")" dump_database "$postgres" 9>&- & dumping=$(child $!)
}
# A number that was waited for may be anybody's: none is kept.
end_dump() { local pid=${dumping%% *}; dumping=; wait "$pid"; }
end_asking() { local pid=${asking%% *}; asking=; wait "$pid"; }
end_removing() { local pid=$removing; removing=; wait "$pid"; }

# Commits go on in the background: what is left to do in the freeze needs none of them.
begin_commits() {
  local name image save; local -a flags=()
  # From 1.1 to 1.5 a commit thaws the container behind it unless told not to pause.
  at_least 1.1 "$docker" && flags=(--pause=false)
  while read -r name image _ save; do
    [ "$save" = image ] || continue
    echo "${image}_$stock_id" >> "$job/images"
    timeout 900 docker commit ${flags[@]+"${flags[@]}"} "$name" "${image}_$stock_id" >/dev/null 9>&- & commits+=($!)
  done < "$job/containers"
}

# Containers that were stopped, or had no time for a while, take theirs to answer: of the former, puppet runs in each of them.
ask_tasks() {
  local code deadline patience=60
  [ "$freeze" != stop ] || patience=1800
  deadline=$(($(uptime_seconds) + patience))
  while :; do
    timeout 90 fuel task --list --json > "$job/tasks.out" 2>"$job/tasks.err" </dev/null
    code=$?
    # A password that is refused is refused again.
    ! grep -s Unauthorized "$job/tasks.out" "$job/tasks.err" >/dev/null || break
    { [ $code -ne 0 ] || ! grep '^ *\[' "$job/tasks.out" >/dev/null; } && [ "$(uptime_seconds)" -lt $deadline ] || break
    sleep 2
  done
  event "tasks $code"
}

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  release_pipe "$job"
  # Without its job it would go on with all its threads for nothing.
  [ -z "$packing" ] || kill "$packing" 2>/dev/null
  kill_child "$dumping"
  kill_child "$asking"
  [ -z "$removing" ] || wait "$removing"
  # Somebody may have said so while a pause was still under way. A thaw that was settled is over: what is paused since is not tanker's.
  [ $code -eq 0 ] || is_over "$job" || rm -f "$job/thawed"
  # A pause that Docker was slow to take may still come: then the last word is the watchdog's, which looks again and again.
  if [ $code -ne 0 ] && [ "$current_step" = freeze ] && [ -s "$job/watchdog" ] && [ ! -e "$job/void" ]; then
    thaw_listed "$job" >/dev/null || event "stuck after a failed freeze"
  else thaw_all && { [ ! -s "$job/frozen" ] || settle_listed "$job"; }; fi
  if [ $code -ne 0 ]; then
    [ ! -e "$job/void" ] || event "failed $current_step the capture is void: $(cat "$job/void")"
    [ -e "$job/void" ] || say_failure "stopped with code $code: $(last_words)"
    # Commits that were begun are waited for, or their images would come when nobody knows of them any more; and Docker goes on with one
    # though its client is gone.
    case $current_step in delta|commit) end_commits || leave_orphans; sleep 3 ;; esac
    remove_images "$job" || event "note temporary images could not be removed"
    rm -rf "$job/a" "$job/outer.tar" "$job"/fuel_backup_*
  fi
}

main() {
  [ "$3" != backup ] || sign_job "$1"
  job=$1
  begin_job
  stock_id=$2 mode=$3 freeze=$4 freeze_timeout=$5 lease=$6 images_form=$7 supervisor=$8 spool=$9
  case $mode in watchdog|guard) "$mode"; return ;; esac
  # Through a pipe the line's speed counts, and the guard ends what nobody reads.
  patience=7200
  [ "$spool" = spool ] || patience=604800
  packing='' dumping='' asking='' removing=''
  trap on_exit EXIT
  trap 'exit 143' TERM INT HUP
  local archive="$job/fuel_backup_$stock_id.tar.lrz" postgres began member n
  mkdir -p "$job/a"
  [ "$spool" = spool ] || timer guard

  step dump
  postgres=$(awk '$1 ~ /-postgres$/ && $3 == "freeze" { print $1 }' "$job/containers")
  if [ -n "$postgres" ]; then begin_dump || fail "pg_dumpall failed: $(words_of "$job/dump.log")"
  else note "postgres does not run: no database dump"; fi
  step live
  began=$(now_ms)
  each_tree live_pass
  live_ms=$(($(now_ms) - began))
  [ -z "$dumping" ] || end_dump || fail "pg_dumpall failed: $(words_of "$job/dump.log")"
  step predict
  measure
  : > "$job/changed.bytes"
  # How long containers take to stop and start nobody knows beforehand.
  if [ "$freeze" = pause ] || [ "$freeze" = cgroup ]; then
    predict
    [ "$predicted" -lt $((freeze_timeout * 1000)) ] || fail "the freeze would take about $((predicted / 1000)) s, longer than its limit of $freeze_timeout s: nothing was frozen (--freeze-timeout raises the limit)"
  fi
  enough_room
  # What was written live is on its way to the disk for seconds yet, and whatever syncs a file meanwhile, as a commit does, waits for all of it. A disk
  # that takes longer than this is no reason to have no backup.
  settle_disk

  [ "$(lease_age)" -le "$lease" ] || fail "tanker was not heard of for $lease s: nothing was frozen"
  if [ "$freeze" = none ]; then begin_freeze
  else
    timer watchdog
    for ((n = 0; n < 500; n++)); do [ ! -s "$job/watchdog" ] || break; sleep 0.02; done
    [ -s "$job/watchdog" ] || fail "the timer that thaws did not start: nothing was frozen"
    freeze_all
  fi
  step delta
  begin_commits
  frozen_passes
  step commit
  attempt end_commits
  if [ "$freeze" != none ]; then
    all_frozen || not_void_but "$thawed was thawed behind tanker's back: the capture is void"
    none_woke || not_void_but "$woke began to run during the freeze: the capture is void"
  fi
  not_void

  step thaw
  attempt thaw_all
  not_void
  event "thawed $(($(now_ms) - began))"
  # Every pause had come by then: what is paused from now on is somebody else's.
  : > "$job/captured"
  settle_listed "$job" || note "$(last_words)"

  step tasks
  # The client takes its time: meanwhile the rest goes on.
  ask_tasks 9>&- & asking=$(child $!)
  step save
  if [ "$spool" = pipe ]; then send_the_rest; attempt end_asking; event finished; return; fi
  each_tree join_passes
  mv "$job/description.json" "$job/a/tanker.json"
  (cd "$job/a" && ls -A) > "$job/members"
  : > "$job/outer.tar" || fail "the outer tar can't be written: $(last_words)"
  # Packages come first: lrzip hands on at once what it can't pack.
  append tanker.json && append system-dirs.tar || fail "the outer tar can't be written: $(last_words)"
  while read -r member; do
    case $member in tanker.json|system-dirs.tar) ;; *) append "$member" || fail "$member can't be added: $(last_words)" ;; esac
  done < "$job/members"
  attempt save_images
  attempt end_outer
  remove_images "$job" 9>&- & removing=$!
  attempt end_asking
  step compress
  echo "$archive" > "$job/growing"
  event "tar $(stat -c %s "$job/outer.tar")"
  mv "$job/outer.tar" "${archive%.lrz}"
  attempt pack "${archive%.lrz}" "$archive"
  rm -f "${archive%.lrz}"
  end_removing || note "temporary images could not be removed"
  step digest
  attempt digest_archive "$archive"
  rm -f "$job/growing"
  event "archive $(stat -c %s "$archive") $(cat "$job/sum") ${archive##*/}"
  event finished
}
main "$@"
