# Thaws whatever any job of tanker froze on this master and looks at it.
# usage: thaw.sh

main() {
  local job stuck unsettled all=0
  for job in "$tanker_root"/*/; do
    job=${job%/}
    # What was paused or stopped after the thaw of a job is not tanker's to undo.
    [ -s "$job/frozen" ] && ! is_over "$job" || continue
    [ -e "$job/void" ] || echo "thawed by hand" > "$job/void"
    if stuck=$(thaw_listed "$job"); then
      # While its job lives a pause may still be under way: then the mark is its watchdog's to set.
      job_alive "$job" || : > "$job/thawed"
      unsettled=$(settle_listed "$job") || { echo "$unsettled" >&2; all=1; }
      ! job_alive "$job" || rm -f "$job/settled"
      emit thawed "$(cut -d' ' -f1 "$job/frozen")"
    else emit_frozen "$job" "$stuck"; all=1; fi
  done
  return $all
}
main "$@"
