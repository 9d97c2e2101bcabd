# Takes blocks of a file from stdin and answers each with `ok INDEX`. Several of these can be at work on one file: a line carries only so much
# for each. A cut line looks like a clean end of file from here, so every block is held against its digest, read back from where it was put.
# usage: take.sh JOB NAME    stdin: INDEX LENGTH SHA256, newline, the bytes, for each block; `. 0 -` ends it

main() {
  local job=$1 part=$1/$2.part index length sum got at
  job_dir "$job"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  printf '%s %s\n' "$$" "$(process_start $$)" > "$job/receiver.$$" && renew_lease "$job" || die "$job can't be written: is the disk full?"
  while read -r index length sum; do
    [ "$index" != . ] || { rm -f "$job/receiver.$$"; return 0; }
    case $index$length in ''|*[!0-9]*) die "'$index $length' is no block" ;; esac
    at=$((index * (block_bytes / 65536)))
    head -c "$length" | dd of="$part" bs=65536 seek=$at conv=notrunc 2>>"$job/log" || die "$part can't be written: is the disk full?"
    got=$(dd if="$part" bs=65536 skip=$at count=$((block_bytes / 65536)) 2>>"$job/log" | head -c "$length" | sha256sum)
    [ "${got%% *}" = "$sum" ] || die "block $index did not arrive whole"
    echo "$index $sum" >> "$part.blocks" || die "$part.blocks can't be written: is the disk full?"
    echo "ok $index"
    renew_lease "$job"
  done
  die "the line was cut"
}
main "$@"
