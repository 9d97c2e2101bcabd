#!/bin/bash
# Installs the Debian packages that the tests need and that are missing: these, or the ones that are named.
set -euo pipefail
[ $# -gt 0 ] || set -- chromium lrzip openssh-client openssh-server time age curl memcached rclone strace swift-proxy swift-account swift-container swift-object
missing=
for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"; done
[ -n "$missing" ] || exit 0
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
