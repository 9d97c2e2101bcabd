# Says how much of a file is there that a restore pushes: `whole`, or the blocks that have arrived, a line each: INDEX SHA256. Whoever pushed
# before over a line that broke is ended; whoever still does is let be.
# usage: offer.sh JOB NAME LENGTH OWNER

# What has come in, and been hashed, by now: it is not the receiver itself that moves, but what it has started. Who hashes also waits, and
# says itself how far it is.
came_in() {
  local file pid what _
  for file in "$1"/receiver.*; do
    read -r pid _ what 2>/dev/null < "$file" || continue
    if [ "$what" = seal ]; then cat "$1/hashed" 2>/dev/null; else moved "$pid"; fi
  done
}
moved() {
  local child
  cat "/proc/$1/io" 2>/dev/null
  for child in $(pgrep -P "$1"); do moved "$child"; done
}

is_pushed_by_another() {
  local before
  [ "$(cat "$1/owner" 2>/dev/null)" != "$2" ] && receives "$1" || return 1
  before=$(came_in "$1")
  sleep 4
  receives "$1" && [ "$(came_in "$1")" != "$before" ]
}

main() {
  local job=$1 file=$1/$2
  job_dir "$job"
  mkdir -p "$job" && chmod 700 "$tanker_root" || die "$job can't be made"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  # What was pushed is being unpacked.
  ! job_alive "$job" || refuse "another tanker works on this master: $(cat "$job/owner")"
  ! is_pushed_by_another "$job" "$4" || refuse "another tanker pushes the same backup to this master: $(cat "$job/owner")"
  end_receivers "$job"
  # Of an earlier restore of the same backup, which is over.
  rm -f "$job/parameters"
  # Or nobody would see what is left of a push that nobody goes on with.
  printf '%s\n' "$4" > "$job/owner" || die "$job can't be written: is the disk full?"
  renew_lease "$job" || die "$job can't be written: is the disk full?"
  if [ "$(stat -c %s "$file" 2>/dev/null)" = "$3" ]; then emit have whole
  else emit have "$(cat "$file.part.blocks" 2>/dev/null)"; fi
}
main "$@"
