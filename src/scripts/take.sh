# Takes blocks of a file from stdin and answers each with `ok INDEX`. Several of these can be at work on one file: a line carries only so much
# for each. A cut line looks like a clean end of file from here, so a block counts only when all its bytes have come; whether they are right
# says `seal.sh` in the end.
# usage: take.sh JOB NAME    stdin: INDEX LENGTH SHA256, newline, the bytes, for each block; `. 0 -` ends it

# Puts a block in its place; `came` is how many bytes of it did. Whole blocks without a pipe in between, and nothing that need not be started: that
# is most of the work.
put_block() {
  local at=$(($1 * (block_bytes / 65536))) said
  if [ "$2" = $block_bytes ]; then
    said=$(exec dd of="$part" bs=65536 seek=$at count=$((block_bytes / 65536)) iflag=fullblock conv=notrunc 2>&1)
  else
    said=$(head -c "$2" | dd of="$part" bs=65536 seek=$at conv=notrunc 2>&1)
  fi || { printf '%s\n' "$said" >> "$job/log"; return 1; }
  # Its last line is `4194304 bytes (4.2 MB) copied, …`.
  came=${said##*$'\n'}
  came=${came%% *}
}

# Who pushes is heard of again and again, not at every block.
stay() {
  [ $((SECONDS - renewed)) -ge 3 ] || return 0
  renew_lease "$job"
  renewed=$SECONDS
}

main() {
  local job=$1 part=$1/$2.part index length sum came renewed=$SECONDS
  job_dir "$job"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  printf '%s %s\n' "$$" "$(process_start $$)" > "$job/receiver.$$" && renew_lease "$job" || die "$job can't be written: is the disk full?"
  while read -r index length sum; do
    [ "$index" != . ] || { rm -f "$job/receiver.$$"; return 0; }
    case $index$length in ''|*[!0-9]*) die "'$index $length' is no block" ;; esac
    put_block "$index" "$length" || die "$part can't be written: is the disk full?"
    [ "$came" = "$length" ] || die "the line was cut"
    echo "$index $sum" >> "$part.blocks" || die "$part.blocks can't be written: is the disk full?"
    echo "ok $index"
    stay
  done
  die "the line was cut"
}
main "$@"
