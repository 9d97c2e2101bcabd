#!/bin/bash
# Every shell script of the project, those that run on a master the way they are sent: behind what they share.
set -euo pipefail
cd "$(dirname "$0")/.."
shellcheck -x tests/*.sh tests/remotes/{ceph,swift} tests/lab/lab .ci/run tests/lab/image/{boot,factory,build-inner,fuel,dockerctl-of-the-lab,dockerctl-stock,lxc-attach,start-docker,docker-played-old} tests/lab/image/inner/{service,postgres,token-writer,nailgun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for script in src/scripts/*.sh; do
  name=${script##*/}
  case $name in
    base.sh|lib.sh|services.sh|job.sh|freeze.sh|pack.sh|unpack.sh|ready.sh) continue ;;
    backup.sh) cat src/scripts/{base,lib,services,job,freeze,pack}.sh "$script" > "$work/$name" ;;
    drill.sh) cat src/scripts/{base,lib,services,job,unpack}.sh "$script" > "$work/$name" ;;
    prepare.sh|cutover.sh) cat src/scripts/{base,lib,services,job,ready,unpack}.sh "$script" > "$work/$name" ;;
    poll.sh|read.sh|stripe.sh|files.sh|keep.sh|prove.sh|root.sh) cat src/scripts/base.sh "$script" > "$work/$name" ;;
    *) cat src/scripts/{base,lib,services}.sh "$script" > "$work/$name" ;;
  esac
  # What is defined twice hides what the shared functions count on.
  twice=$(grep -oE '^[a-z_]+\(\)' "$work/$name" | sort | uniq -d)
  [ -z "$twice" ] || { echo "$script defines again what is shared: $twice"; exit 1; }
  # SC2317, SC2329: each script uses a part of what is shared.
  shellcheck -s bash -e SC2015,SC2317,SC2329 "$work/$name"
done
# A master's bash is 4.1, its coreutils 8.4 and its tar 1.23, and those of the lab are not: what came later is found by its name.
newer='wait -n|(declare|local) -n|declare -g|@Q\}|%\([^)]*\)T|mapfile -d|readarray -d|\[-[0-9]+\]\}|\brealpath\b|\bnumfmt\b|timeout (-k|--kill-after|--foreground)|\bnsenter\b|BASHPID:|EPOCHREALTIME|iflag=[a-z,]*(count_bytes|skip_bytes)|--sort=name|sort (-V|--version-sort)|stat [^|]*--printf|pgrep -a |(^|[^p])grep -P'
if grep -nE "$newer" src/scripts/*.sh | grep -v '^[^:]*:[0-9]*: *#'; then echo "newer than what a master of CentOS 6 has"; exit 1; fi
echo "shellcheck: clean"
