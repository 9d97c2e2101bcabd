# All blocks of a file are there: it gets its name when length and digest of the whole are right.
# usage: seal.sh JOB NAME LENGTH SHA256

main() {
  local job=$1 file=$1/$2 have got
  job_dir "$job"
  [ ! -e "$file" ] || return 0
  have=$(stat -c %s "$file.part" 2>/dev/null) || die "nothing of it is there"
  got=$(sha256sum < "$file.part"); got=${got%% *}
  # What a power cut left of a block that had been right is found here: then nothing of it is worth keeping.
  [ "$have" = "$3" ] && [ "$got" = "$4" ] || { rm -f "$file.part" "$file.part.blocks"; die "what arrived has another SHA-256 than what was sent"; }
  mv "$file.part" "$file" && rm -f "$file.part.blocks" || die "$file can't be written"
  renew_lease "$job"
}
main "$@"
