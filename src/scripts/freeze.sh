# shellcheck shell=bash
# Freezing and thawing a master's containers for a backup, and the timers that thaw when nobody else does (I1). It stands between job.sh and
# backup.sh, whose variables it uses: job, freeze, freeze_timeout, lease, supervisor, stock_id, images_form, spool.

# ---- the watchdog (I1) -----------------------------------------------------------------------------------------------

# Thaws when the deadline passes, when the lease is not renewed, or when the job has died. Runs in a session of its own.
watchdog() {
  local started reason try
  started=$(uptime_seconds)
  echo $$ > "$job/watchdog"
  while [ ! -e "$job/thawed" ]; do
    reason=
    if ! job_alive "$job"; then reason="the job died while containers were frozen"
    elif [ $(($(uptime_seconds) - started)) -ge "$freeze_timeout" ]; then reason="the freeze took longer than $freeze_timeout s"
    elif [ "$(lease_age)" -gt "$lease" ]; then reason="tanker was not heard of for $lease s"
    # Somebody has thawed by hand: what the job still does is for nothing.
    elif [ -s "$job/void" ]; then reason=$(cat "$job/void"); fi
    if [ -n "$reason" ]; then
      # Void first, then thaw: a capture that saw one thawed container is never taken for a good one.
      echo "$reason" > "$job/void.new" && mv "$job/void.new" "$job/void"
      event "void $reason"
      # One that is still stopping containers would stop what is started here.
      [ "$freeze" != stop ] || end_job "$job"
      thaw_stubbornly
      # The job is of no use any more, and holds the master's lock. A pause that it had under way ends with it, or after it.
      end_job "$job"
      for try in 1 2 3; do thaw_stubbornly; sleep 1; done
      reason=$(settle_listed "$job") && reason= || note "$reason"
      : > "$job/thawed"
      [ -z "$reason" ] || linger
      return
    fi
    sleep 0.3
  done
}

# A pause that a hung Docker has taken can still come, until it has answered for a while. Whoever works on this master next has looked after that
# first, and what is frozen from then on is its own.
linger() {
  local quiet=0
  while [ -d "$job" ] && [ $quiet -lt 10 ] && ! others_work; do
    rm -f "$job/settled"
    if [ -n "$(listed_frozen "$job")" ]; then rm -f "$job/thawed"; thaw_stubbornly; : > "$job/thawed"; quiet=0
    elif settle_listed "$job" >/dev/null; then quiet=$((quiet + 1))
    else quiet=0; fi
    sleep 1
  done
}
others_work() {
  local other
  for other in "$tanker_root"/*/; do [ "${other%/}" = "$job" ] || ! job_alive "${other%/}" || return 0; done
  return 1
}

thaw_stubbornly() {
  local stuck
  while ! stuck=$(thaw_listed "$job"); do event "stuck ${stuck//$'\n'/ }"; sleep 2; done
}

# Without a spool the job waits for tanker at every pipe. One that nobody reads any more is ended, or it would hold the master's lock
# for as long as a dead line looks alive from here. While containers are frozen the watchdog is the stricter one.
guard() {
  while job_alive "$job"; do
    if [ "$(lease_age)" -gt $((lease + 60)) ]; then
      echo "tanker was not heard of for $(lease_age) s" > "$job/void"
      end_job "$job"
    fi
    sleep 2
  done
}

# ---- freeze and thaw -------------------------------------------------------------------------------------------------

# From here on containers are frozen; what comes before takes its time while they run.
begin_freeze() { step freeze; began=$(now_ms); [ "$freeze" = none ] || event frozen; }

freeze_all() {
  local name paused freezer state pid failed=0; local -a names=() pids=()
  while read -r name _ state _; do [ "$state" != freeze ] || names+=("$name"); done < <(tac "$job/containers")
  : > "$job/survey"
  [ ${#names[@]} -gt 0 ] || { begin_freeze; return 0; }
  survey "${names[@]}" > "$job/survey"
  [ "$(wc -l < "$job/survey")" -eq ${#names[@]} ] || fail "Docker doesn't say in which state the containers are"
  while read -r name paused freezer; do
    # An operator's own pause since the preflight is not ours to undo.
    if [ "$paused" = true ] || { [ "$freezer" != - ] && is_frozen "$name" "$freezer"; }; then fail "$name was paused by somebody else meanwhile"; fi
    [ "$freeze" != cgroup ] || [ "$freezer" != - ] || fail "$name has stopped meanwhile, or has no cgroup in the freezer hierarchy: nothing was frozen"
  done < "$job/survey"
  none_woke || fail "$woke began to run meanwhile: nothing was frozen, run the backup again"
  echo "$freeze" > "$job/method" || fail "the spool can't be written: $(last_words)"
  not_void
  begin_freeze
  if [ "$freeze" = stop ]; then stop_all "${names[@]}"; return; fi
  # Written down first, or nobody would know what to thaw.
  awk '{ print $1, $3 }' "$job/survey" > "$job/frozen" || fail "the list of frozen containers can't be written: $(last_words)"
  # Where it takes several names a start of Docker's client for each, which is what takes the time, is saved. What that leaves is done one by one,
  # but begun together.
  if [ "$freeze" = pause ] && takes_several; then by_each_core 30 pause "${names[@]}"; fi
  while read -r name _ freezer; do
    if [ "$freezer" != - ] && is_wholly_frozen "$name" "$freezer"; then continue; fi
    freeze_one "$name" "$freezer" & pids+=($!)
  done < "$job/survey"
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || failed=1; done
  not_void
  [ "$failed" = 0 ] || fail "the containers could not be frozen: $(last_words)"
  # Old clients print usage and exit 0: only the state counts.
  all_frozen || fail "$thawed did not freeze"
}

# The most thorough freeze and the dearest: every start of a container takes a real master minutes.
stop_all() {
  local name
  # Who is to be told again comes first: a thaw tells it even where no container has stopped yet.
  echo "$supervisor" > "$job/unsupervised" || fail "the spool can't be written: $(last_words)"
  for name in "$@"; do echo "$name stopped"; done > "$job/frozen" || fail "the list of stopped containers can't be written: $(last_words)"
  for name in "$@"; do echo "$name false stopped"; done > "$job/survey"
  stop_services "$supervisor" "$@" || fail "the containers could not be stopped: $(last_words)"
  all_frozen || fail "$thawed did not stop"
}

# What `docker pause` does, and what is left to do where Docker has no such command.
freeze_one() {
  local try
  if [ "$freeze" = pause ]; then
    # A busy kernel may not freeze a container that starts processes all the time; a moment later it does.
    for try in 1 2 3 4; do
      timeout 30 docker pause "$1" >/dev/null && return 0
      is_wholly_frozen "$1" "$2" && return 0
      sleep "0.$try"
    done
    return 1
  fi
  [ "$2" != - ] || { echo "$1 has no cgroup in the freezer hierarchy"; return 1; }
  echo FROZEN > "$2" || return 1
  for ((try = 0; try < 100; try++)); do [ "$(cat "$2")" != FROZEN ] || return 0; sleep 0.02; done
  return 1
}

# What did not run, or an operator had paused, is taken as it lies there: only as long as that stays so.
none_woke() {
  local name state running paused pid freezer field='{{.State.Paused}}'; local -a kept=()
  while read -r name _ state _; do [ "$state" != keep ] || kept+=("$name"); done < "$job/containers"
  [ ${#kept[@]} -gt 0 ] || return 0
  at_least 0.12 "$docker" || field=false
  while read -r name running paused pid; do
    [ "$running" = true ] && [ "$paused" != true ] || continue
    freezer=$(freezer_of "$pid") && is_frozen "${name#/}" "$freezer" && continue
    woke=${name#/}
    return 1
  done < <(timeout 60 docker inspect -f "{{.Name}} {{.State.Running}} $field {{.State.Pid}}" "${kept[@]}" 2>/dev/null)
}

all_frozen() {
  local name freezer
  while read -r name _ freezer; do
    is_wholly_frozen "$name" "$freezer" || { thawed=$name; return 1; }
  done < "$job/survey"
}

# In a session of its own, without the master's lock: it outlives the job.
timer() { setsid bash "$job/run.sh" "$job" "$stock_id" "$1" "$freeze" "$freeze_timeout" "$lease" "$images_form" "$supervisor" "$spool" </dev/null >/dev/null 2>&1 9>&- & }

not_void() { [ ! -e "$job/void" ] || fail "the capture is void: $(cat "$job/void")"; }
not_void_but() { not_void; fail "$1"; }

thaw_all() {
  local stuck
  [ ! -e "$job/thawed" ] || return 0
  if stuck=$(thaw_listed "$job"); then : > "$job/thawed"; return 0; fi
  event "stuck ${stuck//$'\n'/ }"
  return 1
}
