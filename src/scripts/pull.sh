# Sends a member of the archive from the pipe that the job writes it into (`--no-spool`).
# usage: pull.sh JOB

main() {
  job_dir "$1"
  [ -p "$1/pipe" ] || die "the job has ended: there is nothing to read"
  exec cat "$1/pipe"
}
main "$@"
