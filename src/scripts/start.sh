# Starts a job that outlives this connection: takes the master's lock, writes what the job needs into its folder, and
# runs it in a session of its own. The job inherits the lock and so holds it exactly as long as it lives.
# usage: start.sh JOB OWNER KEEP ARGUMENT...    KEEP: for how many seconds an archive that nobody fetched, or pushed any further, is kept    stdin: NAME LENGTH, newline, the bytes, for each file; `. 0` ends it

# The lock is on the spool folder itself, which the last job removes: whoever waited on the removed one tries again.
take_lock() {
  local try
  for try in 1 2 3; do
    mkdir -p "$tanker_root" && chmod 700 "$tanker_root" || die "the spool $tanker_root can't be made"
    exec 9<"$tanker_root" || continue
    flock -n 9 || busy "$(live_owners)"
    [ "$(stat -c %i "$tanker_root" 2>/dev/null)" != "$(stat -L -c %i /proc/self/fd/9)" ] || return 0
  done
  die "the lock on $tanker_root can't be taken (try $try)"
}
busy() { refuse "another tanker works on this master: $1"; }
live_owners() { local job; for job in "$tanker_root"/*/; do ! job_alive "$job" || cat "$job/owner"; done; }

receive_files() {
  local name length
  while read -r name length; do
    [ "$name" != . ] || return 0
    case $name in *[!a-z.]*) die "'$name' is no name for a job's file" ;; esac
    head -c "$length" > "$1/$name" || return 1
    [ "$(stat -c %s "$1/$name")" = "$length" ] || return 1
  done
  return 1
}

# Whatever an earlier run left behind, its owner dead: containers thawed, images and folders removed.
remove_dead_jobs() {
  local left stuck
  for left in "$tanker_root"/*/; do
    left=${left%/}
    [ -d "$left" ] || continue
    # A restore's cutover goes on in the folder that its preparation left; one that is being pushed has no job yet.
    case ${left##*/} in restore-*) [ "$left" != "$1" ] && ! being_pushed "$left" || continue ;; esac
    # A restore that stopped half way holds the only copy of what it replaced, and nothing may happen before its end.
    [ ! -e "$left/cutover" ] || refuse "a restore of this master came to no end (${left##*/}): 'tanker restore --to HOST --rollback', with its name in the inventory for HOST, puts it back, '--resume' instead does it again"
    job_alive "$left" && continue
    ! being_read "$left" || busy "$(cat "$left/owner")"
    # What an operator paused after an earlier thaw is not tanker's to thaw.
    if [ -s "$left/frozen" ] && [ ! -e "$left/settled" ]; then
      stuck=$(thaw_listed "$left") || { emit_frozen "$left" "$stuck"; die "containers stay frozen from an earlier run: ${stuck//$'\n'/ }"; }
      settle_listed "$left" || die "Docker has not confirmed the thaw after an earlier run: does it answer?"
    fi
    # Somebody may yet come for it.
    ! waits_to_be_fetched "$left" "$2" || continue
    if has_packed "$left" && is_attended "$left"; then busy "$(cat "$left/owner")"; fi
    release_pipe "$left"
    # Only the list in there says which images are temporary; what takes room needs none.
    remove_images "$left" || { rm -rf "$left"/a "$left"/outer.tar "$left"/fuel_backup_* "$left"/x "$left"/root; continue; }
    remove_staged "$left"
    # What was pushed the same restore goes on with, if anybody runs it again: the rest of it goes.
    if was_pushed_lately "$left" "$2"; then forget_preparation "$left"; continue; fi
    rm -rf "$left"
  done
}

# An archive, or a part of one, that a restore pushed less than so many seconds ago and that was not restored since.
was_pushed_lately() {
  local file pushed
  [ -z "${1##*/restore-*}" ] && [ ! -e "$1/parameters" ] || return 1
  for file in "$1/archive.tar.lrz" "$1/archive.tar.lrz.part.blocks"; do
    [ -s "$file" ] && pushed=$(stat -c %Y "$file") && [ $(($(date +%s) - pushed)) -lt "$2" ] && return 0
  done
  return 1
}

# The mark first: whoever prepared it comes back to a cutover that finds nothing to cut over to.
forget_preparation() { rm -f "$1/prepared" && find "$1" -mindepth 1 -maxdepth 1 ! -name owner ! -name 'archive.tar.lrz*' -exec rm -rf --one-file-system {} +; }

has_packed() { grep -q '^[0-9]* archive ' "$1/events" 2>/dev/null; }

# An archive that was packed less than so many seconds ago, by a tanker that did not come to fetch it.
waits_to_be_fetched() {
  local packed
  has_packed "$1" || return 1
  packed=$(stat -c %Y "$1/events") && [ $(($(date +%s) - packed)) -lt "$2" ]
}

main() {
  local job=$1 owner=$2 keep=$3 try child; shift 3
  job_dir "$job"
  take_lock
  remove_dead_jobs "$job" "$keep"
  remove_orphans
  # A job may be continued (a restore's cutover follows its preparation): then its folder is there.
  mkdir -p "$job" || die "the job's folder $job can't be made"
  printf '%s\n' "$owner" > "$job/owner"
  receive_files "$job" || die "the job's files did not arrive whole"
  renew_lease "$job"
  rm -f "$job/pid"
  setsid bash "$job/run.sh" "$job" "$@" </dev/null >>"$job/log" 2>&1 &
  child=$!
  for ((try = 0; try < 300; try++)); do
    [ ! -s "$job/pid" ] || return 0
    sleep 0.1
  done
  kill -KILL "$child"
  die "the job did not start: $(tail -n 1 "$job/log")"
}
main "$@"
