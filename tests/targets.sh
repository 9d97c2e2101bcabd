#!/bin/bash
# Whether tanker compiles for workstations of another kind: Linux with musl, Windows, macOS. Checked, not linked. rustup fetches
# their standard libraries.
# usage: tests/targets.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl x86_64-pc-windows-gnu aarch64-apple-darwin
tests/prepare.sh musl-tools gcc-mingw-w64-x86-64 clang llvm
rustup target add "$@"
# There is no SDK of Apple's here, and nothing is linked: what is compiled from C needs to know no more of it than this.
sdk=$(mktemp -d)
trap 'rm -rf "$sdk"' EXIT
printf '#define TARGET_OS_%s\n' 'MAC 1' 'OSX 1' 'IPHONE 0' > "$sdk/TargetConditionals.h"
echo '#define assert(fine) ((void)0)' > "$sdk/assert.h"
printf '#include <stddef.h>\nvoid *%s;\n' 'memcpy(void *, const void *, size_t)' 'memmove(void *, const void *, size_t)' 'memset(void *, int, size_t)' > "$sdk/string.h"
export CC_aarch64_apple_darwin=clang AR_aarch64_apple_darwin=llvm-ar
export CFLAGS_aarch64_apple_darwin="--target=arm64-apple-macos11 -ffreestanding -nostdlibinc -I$sdk"
for target in "$@"; do
  echo "== $target"
  RUSTFLAGS='-D warnings' cargo check --locked --target "$target"
done
