# Keeps in a job's folder what only whoever comes again for its archive can use.
# usage: keep.sh JOB NAME     the bytes on stdin

main() {
  job_dir "$1"
  [ -d "$1" ] || die "$1 is not there"
  cat > "$1/$2.new" && mv "$1/$2.new" "$1/$2" || die "$1/$2 can't be written: is the disk full?"
}
main "$@"
