#!/bin/bash
# What the library costs: hashing and writing against cp and sha256sum, encrypting against age, verifying against sha256sum, and listing
# 10,000 backups. In turn, medians. Prints a table, and writes it as JSON.
# usage: tests/bench-library.sh [RUNS] [MEGABYTES] [ENTRIES]     (5 1000 10000 unless said)
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5} size=${2:-1000} entries=${3:-10000}
tests/prepare.sh age time lrzip
cargo build --locked --quiet --release --examples --bins
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/bench.sh
. tests/bench.sh
head -c "${size}M" /dev/urandom > "$work/file"
age-keygen -o "$work/key" 2>/dev/null
to=$(sed -n 's/^# public key: //p' "$work/key")
shelve() { rm -rf "$work/library"; "$1" target/release/examples/shelve "$work/library" "$work/file" "${@:2}"; }
# shellcheck disable=SC2016 # the inner shell expands it
by_hand() { rm -f "$work/copy"; "$1" bash -c 'rm -f "$1/fifo"; mkfifo "$1/fifo"; sha256sum < "$1/fifo" > "$1/sum" & tee "$1/fifo" < "$1/file" > "$1/copy" && wait && sync "$1/copy"' x "$work"; }
# shellcheck disable=SC2016 # the inner shell expands it
sealed_by_hand() { rm -f "$work/copy"; "$1" bash -c 'rm -f "$1/fifo"; mkfifo "$1/fifo"; sha256sum < "$1/fifo" > "$1/sum" & tee "$1/fifo" < "$1/file" | age -r "$2" > "$1/copy" && wait && sync "$1/copy"' x "$work" "$to"; }

ours() { shelve seconds; }; theirs() { by_hand seconds; }
compare "hash by blocks and write $size MB, against tee, sha256sum, sync" s 1
ours() { shelve cpu; }; theirs() { by_hand cpu; }
compare "the same, processor" "CPU s" 1
ours() { shelve seconds "$to"; }; theirs() { sealed_by_hand seconds; }
compare "hash, encrypt and write $size MB, against tee, sha256sum, age" s 1
ours() { shelve cpu "$to"; }; theirs() { sealed_by_hand cpu; }
compare "the same, processor" "CPU s" 1

# One small real backup, many times under other ids: what is listed is read from each one's own manifest.
mkdir -p "$work/many/east"
from=tests/fixtures/format-1/east/2026-11-22-14_07
for ((n = 0; n < entries; n++)); do
  id=$(printf '%04d-%02d-%02d-%02d_07' $((2000 + n / 8064)) $((n / 672 % 12 + 1)) $((n / 24 % 28 + 1)) $((n % 24)))
  mkdir "$work/many/east/$id"
  sed "s/2026-11-22-14_07/$id/" "$from/manifest.json" > "$work/many/east/$id/manifest.json"
  cp "$from"/*.lrz "$work/many/east/$id/"
done
ours() { seconds target/release/tanker --library "$work/many" list; }
theirs() { seconds find "$work/many" -name manifest.json -exec cat {} +; }
compare "list $entries backups, against find and cat of their manifests; under a second" s "-"
[ "$(target/release/tanker --library "$work/many" list | wc -l)" -eq $((entries + 1)) ] || { echo "not all were listed"; exit 1; }
report library
