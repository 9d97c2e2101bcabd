# Sends a file from an offset on; of one that still grows, so many bytes.
# usage: read.sh FILE OFFSET [LENGTH]

main() {
  [ -f "$1" ] || die "$1 is not there"
  mark_reader "$1" $$
  [ -n "${3:-}" ] || exec tail -c "+$(($2 + 1))" -- "$1"
  # `head` has all it wants before `tail` has said everything: only its own code counts.
  tail -c "+$(($2 + 1))" -- "$1" 2>/dev/null | head -c "$3"
}
main "$@"
