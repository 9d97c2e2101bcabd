#!/bin/bash
# How the cost of a backup grows: with the size of what is on the master, the number of its files, of its running containers, and the
# number of masters at once; four points each, medians. Prints a table, and writes it as JSON.
# usage: tests/bench-growth.sh [RUNS] [DIMENSIONS]     (3 "megabytes files containers masters" unless said)
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=bench
runs=${1:-3} dimensions=${2:-megabytes files containers masters} lab=tests/lab/lab
wanted() { case " $dimensions " in *" $1 "*) ;; *) return 1 ;; esac; }
tests/prepare.sh python3-minimal time
cargo build --locked --quiet --release
work=$(mktemp -d)
trap '$lab down; rm -rf "$work"' EXIT
$lab down
# shellcheck source=tests/bench.sh
. tests/bench.sh
points=''

# point DIMENSION VALUE HOST...: backs them up, some times, and keeps the medians of the whole and of the longest freeze
point() {
  local dimension=$1 value=$2 n ms frozen host inventory whole='' freeze=''
  shift 2
  inventory=$($lab inventory)
  for ((n = 1; n <= runs; n++)); do
    rm -rf "$work/library"
    whole="$whole$(seconds env XDG_STATE_HOME="$work/state" target/release/tanker -q -i "$inventory" --library "$work/library" backup "$@")
"
    frozen=0
    for host in "$@"; do
      ms=$(sed -n 's/^ *"milliseconds": \([0-9]*\),$/\1/p' "$work/library/$host"/*/manifest.json | head -n 1)
      [ "$ms" -le "$frozen" ] || frozen=$ms
    done
    freeze="$freeze$frozen
"
  done
  whole=$(printf %s "$whole" | median); freeze=$(printf %s "$freeze" | median)
  printf '%-28s %8s   backup %7.2f s   frozen %6.2f s\n' "$dimension" "$value" "$whole" "$(awk "BEGIN { print $freeze / 1000 }")"
  points="$points$dimension|$value|$whole|$freeze
"
}

$lab up m1 --fuel 8.0
if wanted megabytes; then
for size in 100 200 400 800; do
  $lab exec m1 bash -c "mkdir -p /var/www/nailgun/grown && head -c ${size}M /dev/urandom | split -a 4 -b 900000 - /var/www/nailgun/grown/package-"
  point megabytes "$size" m1
done
$lab exec m1 rm -rf /var/www/nailgun/grown
fi
if wanted files; then
for files in 10000 20000 40000 80000; do
  $lab exec m1 bash -c "mkdir -p /var/www/nailgun/many && cd /var/www/nailgun/many && for ((f = 0; f < $files; f++)); do d=\$((f / 1000)); [ -d \$d ] || mkdir \$d; [ -e \$d/\$f ] || echo \$f > \$d/\$f; done"
  point files "$files" m1
done
$lab exec m1 rm -rf /var/www/nailgun/many
fi
if wanted containers; then
# nailgun needs its database and keystone to tell its tasks: the others are stopped one after another.
point containers 11 m1
for stop in "mcollective cobbler nginx" "ostf rsync" "rsyslog"; do
  for service in $stop; do $lab exec m1 bash -c "systemctl stop docker-$service 2>/dev/null; docker stop fuel-core-8.0-$service" >/dev/null; done
  point containers "$($lab exec m1 bash -c 'docker ps -q --filter name=fuel-core | wc -l')" m1
done
fi
if wanted masters; then
$lab down
$lab up m1 m2 m3 m4 --fuel 8.0
point masters 1 m1
point masters 2 m1 m2
point masters 3 m1 m2 m3
point masters 4 m1 m2 m3 m4
# Two cores for all of them show what they take from each other, as masters of their own don't: with a third of a core for each, what is left is for the
# workstation and for what they do share.
for master in m1 m2 m3 m4; do $lab hold $master --cpus 0.33; done
point 'masters of a third of a core' 1 m1
point 'masters of a third of a core' 2 m1 m2
point 'masters of a third of a core' 3 m1 m2 m3
point 'masters of a third of a core' 4 m1 m2 m3 m4
fi

mkdir -p target/bench
printf '%s' "$points" | awk -F '|' 'BEGIN { print "[" } { printf "%s  { \"dimension\": \"%s\", \"value\": %s, \"backup_seconds\": %s, \"frozen_ms\": %s }", (NR > 1 ? ",\n" : ""), $1, $2, $3, $4 } END { print "\n]" }' > target/growth.json
echo "written: target/growth.json"
