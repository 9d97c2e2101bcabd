# shellcheck shell=bash
# shellcheck disable=SC2154 # work and runs are set by who sources it
# What the benchmarks share: two ways of doing one thing, in turn, on this machine, medians and their ratio. Sourced, after `runs` is set.

seconds() { /usr/bin/time -f %e -o "$work/time" "$@" >/dev/null && cat "$work/time"; }
cpu() { /usr/bin/time -f '%U %S' -o "$work/time" "$@" >/dev/null && awk '{ print $1 + $2 }' "$work/time"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

rows=''
# row NAME UNIT OURS THEIRS AIM: a row of figures that were made elsewhere
row() {
  rows="$rows$1|$2|$3|$4|$(awk "BEGIN { if ($4 > 0) printf \"%.2f\", $3 / $4; else printf \"0\" }")|$5
"
}
# compare NAME UNIT AIM: alternates `ours` and `theirs`, which print a figure each
compare() {
  local name=$1 unit=$2 aim=$3 a='' b='' n x y
  for ((n = 1; n <= runs; n++)); do
    # Whoever comes second finds warmer caches: that is each of them in turn.
    if [ $((n % 2)) = 1 ]; then x=$(ours); y=$(theirs); else y=$(theirs); x=$(ours); fi
    echo "  $name, run $n of $runs: tanker $x $unit, the other $y $unit" >&2
    a="$a$x
" b="$b$y
"
  done
  row "$name" "$unit" "$(printf %s "$a" | median)" "$(printf %s "$b" | median)" "$aim"
}
# report NAME: prints the table and writes it to target/bench/NAME.json
report() {
  printf '%s' "$rows" | awk -F '|' 'BEGIN { printf "%-70s %12s %12s %8s %6s\n", "", "tanker", "the other", "ratio", "aim" } { printf "%-70s %8.2f %-6s %8.2f %-6s %5s %6s\n", $1, $3, $2, $4, $2, $5, $6 }'
  mkdir -p target/bench
  printf '%s' "$rows" | awk -F '|' 'BEGIN { print "[" } { printf "%s  { \"what\": \"%s\", \"unit\": \"%s\", \"tanker\": %s, \"other\": %s, \"ratio\": %s, \"aim\": \"%s\" }", (NR > 1 ? ",\n" : ""), $1, $2, $3, $4, $5, $6 } END { print "\n]" }' > "target/bench/$1.json"
  echo "written: target/bench/$1.json"
}
