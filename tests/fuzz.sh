#!/bin/bash
# Runs the fuzzers for so many seconds. They are built with the coverage that libFuzzer needs, which the toolchain of the project can do when
# it is told so.
# usage: tests/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
tests/prepare.sh g++
export RUSTC_BOOTSTRAP=1
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-fuzz
corpus=target/fuzz-corpus
mkdir -p $corpus
export TANKER_FUZZ_CORPUS=$PWD/$corpus
CARGO_TARGET_DIR=target/fuzz cargo fuzz run --sanitizer none parsers $corpus -- -seed=1 -max_total_time="${1:-60}" -timeout=10 -max_len=65536
