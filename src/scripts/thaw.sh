# Thaws whatever any job of tanker froze on this master and looks at it.
# usage: thaw.sh

main() {
  local job stuck all=0
  for job in "$tanker_root"/*/; do
    job=${job%/}
    [ -s "$job/frozen" ] || continue
    [ -e "$job/void" ] || echo "thawed by hand" > "$job/void"
    if stuck=$(thaw_listed "$job"); then : > "$job/thawed"; emit thawed "$(cat "$job/frozen")"
    else emit frozen "$stuck"; all=1; fi
  done
  return $all
}
main "$@"
