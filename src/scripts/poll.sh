# Renews the job's lease and reports what it has done since the last look.
# usage: poll.sh JOB OFFSET    (of the event log, in bytes, from 0)

main() {
  local job=$1 offset=$2 file events
  job_dir "$job"
  [ -d "$job" ] || die "the job $job is gone: the master may have been restarted"
  renew_lease "$job"
  if job_alive "$job"; then emit alive yes; else emit alive no; fi
  # The dot keeps the last newline, which the offset counts.
  events=$(tail -c "+$((offset + 1))" "$job/events" 2>/dev/null; echo .)
  emit events "${events%.}"
  file=$(cat "$job/growing" 2>/dev/null)
  [ -z "$file" ] || emit growing "$(stat -c %s "$file" 2>/dev/null || echo 0)"
}
main "$@"
