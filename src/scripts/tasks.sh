# Asks nailgun for its tasks through the master's own client, and reports code, stdout and stderr as they came.
# usage: tasks.sh

main() {
  local out err code
  err=$(mktemp /tmp/tanker-tasks.XXXXXX) || die "no temporary file could be made in /tmp"
  out=$(timeout 90 fuel task --list --json 2>"$err" </dev/null); code=$?
  emit tasks.code "$code"
  emit tasks.out "$out"
  emit tasks.err "$(head -c 4096 "$err")"
  rm -f "$err"
}
main "$@"
