# Says how much of a file is there that a restore pushes: `whole`, or the blocks that have arrived, a line each: INDEX SHA256. Whoever pushed
# before over a line that broke is ended.
# usage: offer.sh JOB NAME LENGTH OWNER

main() {
  local job=$1 file=$1/$2
  job_dir "$job"
  mkdir -p "$job" && chmod 700 "$tanker_root" || die "$job can't be made"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  end_receivers "$job"
  # Of an earlier restore of the same backup, which is over.
  rm -f "$job/parameters"
  # Or nobody would see what is left of a push that nobody goes on with.
  [ -e "$job/owner" ] || printf '%s\n' "$4" > "$job/owner" || die "$job can't be written: is the disk full?"
  renew_lease "$job" || die "$job can't be written: is the disk full?"
  if [ "$(stat -c %s "$file" 2>/dev/null)" = "$3" ]; then emit have whole
  else emit have "$(cat "$file.part.blocks" 2>/dev/null)"; fi
}
main "$@"
