# Sends a file from an offset on; of one that still grows, so many bytes.
# usage: read.sh FILE OFFSET [LENGTH]

main() {
  [ -f "$1" ] || die "$1 is not there"
  if [ -z "${3:-}" ]; then
    mark_reader "$1" $$
    exec tail -c "+$(($2 + 1))" -- "$1"
  fi
  # `head` has all it wants before `tail` has said everything: only its own code counts, and it is what moves while somebody reads.
  tail -c "+$(($2 + 1))" -- "$1" 2>/dev/null | { mark_reader "$1" $BASHPID; exec head -c "$3"; }
}
main "$@"
