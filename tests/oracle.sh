#!/bin/bash
# Consistency under load: RUNS backups and restores of a master whose database is being written to, each of which must be
# consistent; then up to RUNS backups with `--freeze none`, one of which must be torn, or the test could not fail.
# usage: tests/oracle.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=oracle
runs=${1:-20} lab=tests/lab/lab
tests/prepare.sh
cargo build --locked --quiet
trap '$lab down' EXIT
$lab down
$lab up m --fuel "${FUEL:-5.1}"
inventory=$($lab inventory)
tanker() { target/debug/tanker -q -i "$inventory" "$@"; }
verdict() { tanker backup "$@" >/dev/null && tanker restore m@latest --to m --yes >/dev/null; $lab oracle m | tail -n 1; }

good=0
for n in $(seq "$runs"); do
  answer=$(verdict || true)
  echo "run $n of $runs, frozen: $answer"
  if [ "$answer" = consistent ]; then good=$((good + 1)); fi
done
echo "$good of $runs consistent with a freeze"
torn=0 tried=0
for n in $(seq "$runs"); do
  tried=$n
  answer=$(verdict --freeze none || true)
  echo "run $n, not frozen: $answer"
  if [ "$answer" != consistent ]; then torn=1; break; fi
done
echo "torn without a freeze: $torn in $tried"
[ "$good" = "$runs" ] && [ "$torn" = 1 ]
