#!/bin/bash
# Builds what is given away: a static program and a Debian package of it, and tries both in an empty root filesystem.
# The program is linked against musl, which rustup fetches; with ALLOW_GLIBC=1 statically against glibc where it can't.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/prepare.sh gcc libc6-dev
target=$(rustc -vV | sed -n 's/^host: //p')
libc=glibc
if rustup target add x86_64-unknown-linux-musl; then
  tests/prepare.sh musl-tools
  target=x86_64-unknown-linux-musl
  libc=musl
else
  [ "${ALLOW_GLIBC:-}" = 1 ] || { echo "rustup has no musl target to link against (ALLOW_GLIBC=1 takes glibc)" >&2; exit 1; }
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As README says it, into a folder of its own: what is installed is what is given away.
RUSTFLAGS="-C target-feature=+crt-static" cargo install --locked --path . --bin tanker --target "$target" --target-dir target --root "$work/installed" --no-track
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist"
[ "$("$work/installed/bin/tanker" --version)" = "tanker $version" ]
cp "$work/installed/bin/tanker" "$dist/tanker"

package=$work/package
install -D -m 755 "$dist/tanker" "$package/usr/bin/tanker"
"$dist/tanker" man --to "$package/usr/share/man/man1"
gzip -9n "$package"/usr/share/man/man1/*
mkdir -p "$package"/usr/share/bash-completion/completions "$package"/usr/share/zsh/vendor-completions "$package"/usr/share/fish/vendor_completions.d
"$dist/tanker" completions bash > "$package/usr/share/bash-completion/completions/tanker"
"$dist/tanker" completions zsh > "$package/usr/share/zsh/vendor-completions/_tanker"
"$dist/tanker" completions fish > "$package/usr/share/fish/vendor_completions.d/tanker.fish"
install -D -m 644 -t "$package/usr/share/doc/tanker" README.md inventory.example.toml docs/*.md
mkdir -p "$package/DEBIAN"
cat > "$package/DEBIAN/control" <<CONTROL
Package: tanker
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: tanker developers <tanker@localhost>
Recommends: lrzip
Suggests: age, openssh-client
Section: admin
Priority: optional
Installed-Size: $(du -sk "$package/usr" | cut -f1)
Description: backs up and restores Fuel masters over SSH
 Runs on an admin workstation; nothing is installed on a master.
CONTROL
deb=$dist/tanker_${version}_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group --build "$package" "$deb" >/dev/null

# An empty root: no libraries, no shell, nothing but what the package brings.
root=$work/root
dpkg-deb -x "$deb" "$root"
mkdir -p "$root"/{tmp,root/library}
[ "$(chroot "$root" /usr/bin/tanker --version)" = "tanker $version" ]
chroot "$root" /usr/bin/tanker --library /root/library list >/dev/null
cp -r tests/fixtures/format-2 "$root/root/shelf"
chroot "$root" /usr/bin/tanker --library /root/shelf --key /root/shelf/key.txt verify --all | grep -q 'ok  SHA-256'
! ldd "$dist/tanker" 2>/dev/null | grep '=>' || { echo "it is not static"; exit 1; }
ls -l "$dist"
began=$(date +%s%N)
for _ in {1..20}; do "$dist/tanker" --version >/dev/null; done
ended=$(date +%s%N)
echo "linked statically against $libc ($target); $(($(stat -c %s "$dist/tanker") / 1024)) KiB; starts in $(((ended - began) / 20000)) microseconds"
