# Sends a file from an offset on; of one that still grows, so many bytes; or several pieces of it, one after another.
# usage: read.sh FILE OFFSET [LENGTH [OFFSET LENGTH]...]

# Pieces of 64 KiB, where tail and head move 8 at a time, and each byte twice.
in_pieces() {
  local file=$1 said; shift
  { said=$(mark_reader "$file" $BASHPID; exec dd if="$file" bs=65536 "$@" 2>&1 >&3 3>&-); } 3>&1 && return
  # dd counts behind what it says.
  said=${said%%$'\n'*}
  die "$file can't be sent: ${said##*: }"
}

main() {
  [ -f "$1" ] || die "$1 is not there"
  local file=$1
  shift
  while [ $# -gt 2 ]; do (send "$file" "$1" "$2") || exit; shift 2; done
  send "$file" "$@"
}

send() {
  local from=$2 length=${3:-}
  if [ $((from % 65536)) -eq 0 ]; then
    if [ -z "$length" ]; then in_pieces "$1" skip=$((from / 65536)); return; fi
    # The last piece of a file is as long as it is.
    if [ $((length % 65536)) -eq 0 ] || [ $((from + length)) -eq "$(stat -c %s "$1")" ]; then
      in_pieces "$1" skip=$((from / 65536)) count=$(((length + 65535) / 65536)); return
    fi
  fi
  if [ -z "$length" ]; then
    mark_reader "$1" $$
    exec tail -c "+$((from + 1))" -- "$1"
  fi
  # `head` has all it wants before `tail` has said everything: only its own code counts, and it is what moves while somebody reads.
  tail -c "+$((from + 1))" -- "$1" 2>/dev/null | { mark_reader "$1" $BASHPID; exec head -c "$length"; }
}
main "$@"
