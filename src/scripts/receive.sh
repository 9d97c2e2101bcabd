# Takes a file from stdin: exactly LENGTH bytes, or nothing. A cut line looks like a clean end of file from here, so the
# name appears only when length and digest are right.
# usage: receive.sh JOB NAME LENGTH SHA256

main() {
  local job=$1 name=$2 length=$3 sha256=$4 got
  job_dir "$job"
  mkdir -p "$job" && chmod 700 "$tanker_root" || die "$job can't be made"
  head -c "$length" > "$job/$name.part" || die "$job/$name.part can't be written: is the disk full?"
  [ "$(stat -c %s "$job/$name.part")" = "$length" ] || die "only $(stat -c %s "$job/$name.part") of $length bytes arrived"
  got=$(sha256sum < "$job/$name.part"); got=${got%% *}
  [ "$got" = "$sha256" ] || { rm -f "$job/$name.part"; die "what arrived has another SHA-256 than what was sent"; }
  mv "$job/$name.part" "$job/$name"
}
main "$@"
