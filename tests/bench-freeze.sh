#!/bin/bash
# How long containers are frozen: tanker's backup against the by-hand procedure (pause all, tar everything, commit, unpause), on the
# same master under write load, in turn, medians. Each begins with cold caches, as on a master that nobody has just read through.
# usage: tests/bench-freeze.sh [RUNS] [REPO_SIZE] [FILES]     (5 2G 100000 unless said)
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=bench
runs=${1:-5} size=${2:-2G} files=${3:-100000} lab=tests/lab/lab
tests/prepare.sh python3-minimal
cargo build --locked --quiet --release
trap '$lab down' EXIT
$lab down
$lab up m --fuel 8.0 --repo-size "$size"
inventory=$($lab inventory)
$lab exec m bash -c "mkdir -p /var/www/nailgun/many && cd /var/www/nailgun/many && for ((d = 0; d < 100; d++)); do mkdir \$d; for ((f = 0; f < $files / 100; f++)); do echo \$d \$f > \$d/\$f; done; done"

# shellcheck disable=SC2016 # the master's shell expands it
by_hand='
containers=$(/usr/bin/docker ps -q --filter name=fuel-core)
began=$(date +%s%N)
for c in $containers; do /usr/bin/docker pause $c >/dev/null; done
tar -cf /var/backup/fuel/by-hand.tar -C / etc/puppet etc/fuel var/www/nailgun var/lib/fuel root/.ssh
for c in $containers; do /usr/bin/docker commit --pause=false $c by-hand-$c >/dev/null; done
for c in $containers; do /usr/bin/docker unpause $c >/dev/null; done
echo $((($(date +%s%N) - began) / 1000000))
rm -f /var/backup/fuel/by-hand.tar
for c in $containers; do /usr/bin/docker rmi by-hand-$c >/dev/null; done'

# What the master measured. The rest of the backup, minutes of lrzip, is nothing that is measured here: it is given up.
frozen_by_tanker() {
  local ms=''
  target/release/tanker -q -i "$inventory" backup >/dev/null 2>&1 & pid=$!
  until [ -n "$ms" ]; do
    sleep 2
    kill -0 "$pid" || { echo "the backup ended before a thaw" >&2; return 1; }
    ms=$($lab exec m bash -c "sed -n 's/^[0-9]* thawed \([0-9]*\)$/\1/p' /var/backup/fuel/tanker/backup-*/events 2>/dev/null" || true) # there is no job yet
  done
  kill -INT "$pid"
  wait "$pid" || true # it says that it was interrupted
  echo "$ms"
}
cold() { $lab exec m bash -c 'sync; echo 3 > /proc/sys/vm/drop_caches'; }
# shellcheck source=tests/bench.sh
. tests/bench.sh
ours='' theirs=''
for n in $(seq "$runs"); do
  cold
  hand=$($lab exec m bash -c "$by_hand")
  cold
  tanker=$(frozen_by_tanker)
  echo "run $n of $runs: by hand $hand ms, tanker $tanker ms"
  ours="$ours$tanker
" theirs="$theirs$hand
"
done
row "frozen, $size of packages and $files files, against by hand" s "$(printf %s "$ours" | median | awk '{ print $1 / 1000 }')" "$(printf %s "$theirs" | median | awk '{ print $1 / 1000 }')" 0.1
report freeze
