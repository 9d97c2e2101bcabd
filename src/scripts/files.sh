# Several small files in one answer, each as a fact of its name. One that isn't there is none.
# usage: files.sh FILE...

main() {
  local file text
  for file in "$@"; do
    [ -f "$file" ] || continue
    # The dot keeps newlines at its end.
    text=$(cat "$file" && echo .) || die "$file can't be read"
    emit "$file" "${text%.}"
  done
}
main "$@"
