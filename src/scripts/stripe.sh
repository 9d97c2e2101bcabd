# Sends every so manieth block of a file: one connection carries only so much at a time, and the other blocks go over others.
# usage: stripe.sh FILE FROM TO STEP [reader]     a block begins at FROM and each STEP bytes behind it, and none goes beyond TO; `reader`: this
# one stands for all of them where somebody asks whether the file is being read

# What reads is what moves while somebody takes it.
send_block() {
  local length=$((to - at < block_bytes ? to - at : block_bytes)) said
  { said=$([ -z "$reader" ] || mark_reader "$file" "$BASHPID"; exec dd if="$file" bs=65536 skip=$((at / 65536)) count=$((length / 65536)) 2>&1 >&3 3>&-); } 3>&1 || {
    # dd counts behind what it says.
    said=${said%%$'\n'*}
    die "$file can't be sent: ${said##*: }"
  }
  [ $((length % 65536)) -eq 0 ] || tail -c "+$((at + length - length % 65536 + 1))" -- "$file" 2>/dev/null | head -c $((length % 65536))
}

main() {
  local file=$1 at=$2 to=$3 step=$4 reader=${5:-}
  [ -f "$file" ] || die "$file is not there"
  for ((; at < to; at += step)); do send_block; done
}
main "$@"
