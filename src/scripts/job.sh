# shellcheck shell=bash
# What the long jobs on a master share (backup, restore): the event log that tanker follows, steps, failing.
# It stands between lib.sh and the job.

# Bytes that are no plain text become `?`: the log is followed by its length.
event() { local text="$*"; printf '%s %s\n' "$(now_ms)" "${text//[! -~]/?}" >> "$job/events"; }
step() { current_step=$1; event "step $1"; }
# Ends the job with its reason; the trap that the job set does the cleaning.
fail() { failure_said=yes; event "failed $current_step $*"; exit 1; }
# For the trap: a job that ends by anything else than `fail` has a reason all the same.
say_failure() { [ -n "${failure_said:-}" ] || event "failed $current_step $*"; }
note() { event "note $*"; }

# Everything that the job prints goes to its log: the last line of it is the reason that is reported.
last_words() { words_of "$job/log"; }
words_of() { tail -n 3 "$1" 2>/dev/null | tr '\n' ' ' | cut -c1-600; }
attempt() { "$@" || fail "$(printf '%s' "${1##*/}") failed: $(last_words)"; }

begin_job() {
  current_step=start
  docker=$(docker_version)
  probe_tar
}
# From here on the job counts as alive: the first thing that a job does, for somebody waits for it.
sign_job() {
  job=$1
  job_dir "$job"
  printf '%s %s\n' "$$" "$(process_start $$)" > "$job/pid.new" && mv "$job/pid.new" "$job/pid"
}

lease_age() { local lease; lease=$(cat "$job/lease" 2>/dev/null) || lease=0; echo $(($(uptime_seconds) - lease)); }

# The commits that were begun: Docker works on all of them at once. To wait again tells again how they ended.
commits=()
end_commits() {
  local pid failed=0
  for pid in ${commits[@]+"${commits[@]}"}; do wait "$pid" || failed=1; done
  return $failed
}

# Runs a command in a container; before 1.3 there is no `docker exec`, but LXC underneath.
in_container() {
  local name=$1; shift
  if at_least 1.3 "$docker"; then timeout "${patience:-3600}" docker exec "$name" "$@" </dev/null
  else timeout "${patience:-3600}" lxc-attach --name "$(container_id "$name")" -- "$@" </dev/null; fi
}

free_mib() { df -Pk "$1" | awk 'NR == 2 { printf "%d", $4 / 1024 }'; }
# Docker before 1.2 lays an image out in /tmp to save or load it, and fills the disk that it is on.
fits_in_tmp() {
  local free need=$(($1 / 1048576 + 64))
  ! at_least 1.2 "$docker" || return 0
  free=$(free_mib /tmp)
  [ "$free" -ge "$need" ] || { echo "/tmp has $free MiB free, and a Docker as old as $docker needs up to $need there"; return 1; }
}

# tar for state: owners by number, holes kept, xattrs, ACLs and capabilities where this tar knows them.
probe_tar() {
  local flag
  tar_flags=(--format=posix "--pax-option=delete=atime,delete=ctime" --numeric-owner --sparse)
  for flag in --xattrs --acls --selinux; do
    tar "$flag" -cf /dev/null -T /dev/null >/dev/null 2>&1 && tar_flags+=("$flag")
  done
  tar_extract_flags=("${tar_flags[@]}" --same-owner --preserve-permissions)
  # Without this newer tars leave capabilities (security.*) out when they unpack.
  if tar --xattrs-include='*' -cf /dev/null -T /dev/null >/dev/null 2>&1; then tar_extract_flags+=("--xattrs-include=*"); fi
}
