#!/bin/bash
# Looks whether Rust is there and new enough, and installs the Debian packages that the tests need and that are missing: these, or the
# ones that are named.
set -euo pipefail
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
install="https://rustup.rs has it: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh, then . ~/.cargo/env"
command -v cargo >/dev/null || { echo "cargo is not here: Rust $needed or later is needed; $install" >&2; exit 1; }
found=$(cargo --version | cut -d ' ' -f 2)
printf '%s\n' "$needed" "$found" | sort -V -C || { echo "cargo is of Rust $found, and $needed or later is needed; $install" >&2; exit 1; }
[ $# -gt 0 ] || set -- ceph-mon ceph-osd chromium lrzip openssh-client openssh-server time age curl memcached rclone strace openssl radosgw swift-proxy swift-account swift-container swift-object
missing=
for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"; done
[ -n "$missing" ] || exit 0
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
