# Ends a job and removes what it left: thaws first, then stops it, then its images, then its folder.
# usage: clean.sh JOB [UNUSED]     (UNUSED: only if nobody is bringing its archive home, or pushing one)

in_hands() { if [ -z "${1##*/restore-*}" ]; then being_pushed "$1"; else is_attended "$1"; fi; }

main() {
  local job=$1 stuck
  job_dir "$job"
  if [ -d "$job" ]; then
    # A running cutover must not be stopped half way by somebody who cleans up: it ends by itself, or rolls back.
    if [ -e "$job/cutover" ]; then
      die "a restore on this master is half done in $job: it is left alone"
    fi
    if [ -n "${2:-}" ] && { being_read "$job" || in_hands "$job"; }; then
      die "somebody is at work with ${job##*/}: '--running' ends that too"
    fi
    end_job "$job"
    end_receivers "$job"
    release_pipe "$job"
    # What an operator paused or stopped after the thaw is not tanker's to undo.
    if [ -s "$job/frozen" ] && ! is_over "$job"; then
      stuck=$(thaw_listed "$job") || { emit_frozen "$job" "$stuck"; die "containers stay frozen: ${stuck//$'\n'/ }"; }
      stuck=$(settle_listed "$job") || { emit_frozen "$job" "$(cut -d' ' -f1 "$job/frozen")"; die "$stuck"; }
    fi
    # For its watchdog.
    : > "$job/thawed"
    remove_images "$job" || die "temporary images could not be removed"
    remove_staged "$job"
    rm -rf "$job" || die "$job could not be removed"
  fi
  # Other jobs may be there; an empty spool is not left behind.
  rmdir "$tanker_root" 2>/dev/null
  return 0
}
main "$@"
