# Takes a file from stdin, from OFFSET on: what an earlier, broken push has brought stays. A cut line looks like a clean end of
# file from here, so the name appears only when length and digest are right. Without an offset it says how much is there.
# usage: receive.sh JOB NAME LENGTH SHA256 [OFFSET]

part_size() { stat -c %s "$1.part" 2>/dev/null || echo 0; }

main() {
  local job=$1 file=$1/$2 length=$3 sha256=$4 offset=${5:-} have got
  job_dir "$job"
  mkdir -p "$job" && chmod 700 "$tanker_root" || die "$job can't be made"
  [ ! -e "$job/cutover" ] || die "a restore is half done on this master in $job"
  end_receiver "$job"
  # Of an earlier restore of the same backup, which is over.
  rm -f "$job/parameters"
  printf '%s %s\n' "$$" "$(process_start $$)" > "$job/receiver" && renew_lease "$job" || die "$job can't be written: is the disk full?"
  if [ -z "$offset" ]; then
    if [ "$(stat -c %s "$file" 2>/dev/null)" = "$length" ]; then emit have "$length"; return; fi
    have=$(part_size "$file")
    # All of it, but nobody has looked at it: with the last byte sent again the digest decides.
    [ "$have" -lt "$length" ] || have=$((length - 1))
    emit have "$have"
    return
  fi
  [ "$(part_size "$file")" -ge "$offset" ] || die "less than $offset bytes are there"
  truncate -s "$offset" "$file.part" || die "$file.part can't be written"
  cat >> "$file.part" || die "$file.part can't be written: is the disk full?"
  have=$(part_size "$file")
  [ "$have" -le "$length" ] || { rm -f "$file.part"; die "more than $length bytes arrived"; }
  [ "$have" -eq "$length" ] || die "only $have of $length bytes arrived"
  got=$(sha256sum < "$file.part"); got=${got%% *}
  [ "$got" = "$sha256" ] || { rm -f "$file.part"; die "what arrived has another SHA-256 than what was sent"; }
  mv "$file.part" "$file"
  renew_lease "$job"
}
main "$@"
