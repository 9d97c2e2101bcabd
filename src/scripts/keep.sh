# Keeps in a job's folder what only whoever comes again for its archive can use.
# usage: keep.sh JOB NAME LENGTH     so many bytes on stdin

main() {
  job_dir "$1"
  [ -d "$1" ] || die "$1 is not there"
  cat > "$1/$2.new" || die "$1/$2 can't be written: is the disk full?"
  # A line that was cut must not take away what was kept before.
  [ "$(stat -c %s "$1/$2.new")" = "$3" ] || die "the line was cut"
  mv "$1/$2.new" "$1/$2" || die "$1/$2 can't be written"
}
main "$@"
