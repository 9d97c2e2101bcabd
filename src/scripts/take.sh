# Takes blocks of a file from stdin and answers each with `ok INDEX`. Several of these can be at work on one file: a line carries only so much
# for each. A cut line looks like a clean end of file from here, so a block counts only when all its bytes have come; whether they are right
# says `seal.sh` in the end.
# usage: take.sh JOB NAME    stdin: INDEX LENGTH SHA256, newline, the bytes, for each block; `. 0 -` ends it

# Puts a block in its place and prints how many bytes of it came. Whole blocks without a pipe in between: that is most of the work.
put_block() {
  local at=$(($1 * (block_bytes / 65536))) said
  if [ "$2" = $block_bytes ]; then
    said=$(dd of="$part" bs=65536 seek=$at count=$((block_bytes / 65536)) iflag=fullblock conv=notrunc 2>&1)
  else
    said=$(head -c "$2" | dd of="$part" bs=65536 seek=$at conv=notrunc 2>&1)
  fi || { printf '%s\n' "$said" >> "$job/log"; return 1; }
  sed -n 's/^\([0-9]*\) bytes\{0,1\} .*/\1/p' <<< "$said"
}

main() {
  local job=$1 part=$1/$2.part index length sum came
  job_dir "$job"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  printf '%s %s\n' "$$" "$(process_start $$)" > "$job/receiver.$$" && renew_lease "$job" || die "$job can't be written: is the disk full?"
  while read -r index length sum; do
    [ "$index" != . ] || { rm -f "$job/receiver.$$"; return 0; }
    case $index$length in ''|*[!0-9]*) die "'$index $length' is no block" ;; esac
    came=$(put_block "$index" "$length") || die "$part can't be written: is the disk full?"
    [ "$came" = "$length" ] || die "the line was cut"
    echo "$index $sum" >> "$part.blocks" || die "$part.blocks can't be written: is the disk full?"
    echo "ok $index"
    renew_lease "$job"
  done
  die "the line was cut"
}
main "$@"
