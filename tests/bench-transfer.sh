#!/bin/bash
# What a long line makes of archives: tanker against OpenSSH's scp and against the by-hand procedure, over a line of our own (examples/line.rs)
# to a lab master, in turn, medians. Prints a table, and writes it as JSON.
# usage: tests/bench-transfer.sh [RUNS] [MEGABYTES] [ROUND_TRIP_MS] [PARTS]     (5 300 100 "pull old push cpu whole slow back" unless said)
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=bench
runs=${1:-5} size=${2:-300} push_size=700 trip=${3:-100} parts=${4:-pull old push cpu whole slow back} lab=tests/lab/lab
wanted() { case " $parts " in *" $1 "*) ;; *) return 1 ;; esac; }
tests/prepare.sh openssh-client lrzip time
cargo build --locked --quiet --release --examples --bins
work=$(mktemp -d)
line_pid=''
finish() {
  [ -z "$line_pid" ] || kill "$line_pid" 2>/dev/null || true # it may have ended
  $lab down
  rm -rf "$work"
}
trap finish EXIT
$lab down
$lab up m --fuel 8.0
inventory=$($lab inventory)
address=$(sed -n 's/^address = "\(.*\)"$/\1/p' "$inventory")
key=$(sed -n 's/^identity = \["\(.*\)"\]$/\1/p' "$inventory")
host_key=$($lab exec m cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f1,2)
echo "* $host_key" > "$work/known"; echo "[*]:* $host_key" >> "$work/known"
# Packages: nothing in them that lrzip or a line could make smaller. Not one large file: lrzip hands nothing on before it meets a match.
$lab exec m bash -c "mkdir /var/www/nailgun/packages && head -c ${size}M /dev/urandom | split -a 4 -b 900000 - /var/www/nailgun/packages/package-"
# Logging in takes a second at this distance, for both: the line's own speed shows in a file that takes longer than that.
$lab exec m truncate -s 2G /root/long

# line ROUND_TRIP_MS BYTES_PER_SECOND [PORT]: another line, and the inventory that leads over it
line() {
  [ -z "$line_pid" ] || { kill "$line_pid"; wait "$line_pid" 2>/dev/null || true; } # its code is that of the signal
  rm -f "$work/port"
  target/release/examples/line 127.0.0.1:0 "$address:${3:-22}" "$1" "$2" > "$work/port" & line_pid=$!
  until grep -qs : "$work/port"; do sleep 0.1; done
  port=$(sed 's/.*://' "$work/port")
  printf '[defaults]\nssh_config = "none"\nlibrary = "%s"\nidentity = ["%s"]\nknown_hosts = "%s"\nagent = false\n[hosts.m]\naddress = "127.0.0.1"\nport = %s\n' \
    "$work/library" "$key" "$work/known" "$port" > "$work/inventory.toml"
}
ssh_options() { echo "-q -i $key -o UserKnownHostsFile=$work/known -o Port=$port"; }
tanker() { XDG_STATE_HOME=$work/state target/release/tanker -q -i "$work/inventory.toml" "$@" > "$work/out" || { cat "$work/out"; exit 1; }; }
# shellcheck source=tests/bench.sh
. tests/bench.sh

# ---- one file ---------------------------------------------------------------------------------------------------------
line "$trip" 0
if wanted pull; then
# From where a backup begins with it: a line is open. Both log in once.
ours() { target/release/examples/fetch "$work/inventory.toml" m /root/long $((2 << 30)) "$work/got"; }
# shellcheck disable=SC2046 # a list of words
theirs() { seconds scp $(ssh_options) root@127.0.0.1:/root/long "$work/got"; }
compare "pull of 2 GB at $trip ms, against scp" s "1/15"
rm -f "$work/got"
fi

if wanted old; then
# A server of today that knows no more than OpenSSH 5.3 does; how that one buffers is its own.
$lab exec m bash -c 'ssh-keygen -q -A && /usr/sbin/sshd -p 2222 -o PidFile=/run/old.pid -o Ciphers=aes128-ctr -o MACs=hmac-sha1 -o KexAlgorithms=diffie-hellman-group14-sha1 -o HostKeyAlgorithms=ssh-rsa -o PubkeyAcceptedAlgorithms=+ssh-rsa && truncate -s 500M /root/shorter'
host_key=$($lab exec m cat /etc/ssh/ssh_host_rsa_key.pub | cut -d' ' -f1,2)
echo "[*]:* $host_key" > "$work/known"
line "$trip" 0 2222
ours() { seconds target/release/examples/fetch "$work/inventory.toml" m /root/shorter $((500 << 20)) "$work/got"; }
# shellcheck disable=SC2046
theirs() { seconds scp $(ssh_options) -o KexAlgorithms=+diffie-hellman-group14-sha1 -o HostKeyAlgorithms=+ssh-rsa root@127.0.0.1:/root/shorter "$work/got"; }
compare "pull of 500 MB at $trip ms with what OpenSSH 5.3 knows, against scp" s "1/5"
host_key=$($lab exec m cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f1,2)
echo "* $host_key" > "$work/known"; echo "[*]:* $host_key" >> "$work/known"
line "$trip" 0
rm -f "$work/got"
fi

if wanted push; then
# Logging in and asking what is there take a second of it, as above.
$lab exec m bash -c "mkdir /var/www/nailgun/more && head -c ${push_size}M /dev/urandom | split -a 4 -b 900000 - /var/www/nailgun/more/package-"
tanker backup --no-spool
archive=$(find "$work/library" -name '*.lrz')
# What the push took until the master had all of it and had proven it, from the log of the run, and the login before it, as scp has one.
push_seconds() {
  local log
  log=$(find "$work/state/tanker/runs" -name m.log -path '*restore*' | sort | tail -n 1)
  awk '$2 == "connect" { connect = $1 } $2 == "preflight" && !login { login = span(connect, $1) } $2 == "push" { push = $1 } push && $NF == "done" { printf "%.2f\n", login + span(push, $1); exit }
    function t(s) { split(s, a, /[T:Z]/); return a[2] * 3600 + a[3] * 60 + a[4] }
    function span(from, to) { return (t(to) - t(from) + 86400) % 86400 }' "$log"
}
ours() { sleep 1; tanker restore m@latest --to m --yes --only repositories; push_seconds; }
# shellcheck disable=SC2046
theirs() { seconds scp $(ssh_options) "$archive" root@127.0.0.1:/var/backup/fuel/by-hand.lrz; $lab exec m rm -f /var/backup/fuel/by-hand.lrz; }
compare "push of $((size + push_size)) MB at $trip ms, against scp" s "1/8"
$lab exec m rm -rf /var/www/nailgun/more
rm -rf "$work/library"
fi

line 0 0
if wanted cpu; then
ours() { cpu target/release/examples/fetch "$work/inventory.toml" m /root/long $((2 << 30)) "$work/got"; }
# shellcheck disable=SC2016 # the inner shell expands it
theirs() { cpu bash -c 'rm -f "$3"; mkfifo "$3"; sha256sum < "$3" & ssh $1 root@127.0.0.1 cat /root/long | tee "$3" > "$2"; wait' x "$(ssh_options)" "$work/got" "$work/fifo"; }
compare "CPU of a pull with digest on loopback, against ssh, tee, sha256sum" "CPU s" "1"
fi

# ---- the whole --------------------------------------------------------------------------------------------------------
cat > "$work/by-hand" <<'HAND'
set -e
cd /var/backup/fuel && rm -rf by-hand && mkdir by-hand && cd by-hand
containers=$(/usr/bin/docker ps -q --filter name=fuel-core)
for c in $containers; do /usr/bin/docker pause $c >/dev/null; done
tar -cf system-dirs.tar -C / etc/puppet etc/fuel var/www/nailgun var/lib/fuel root/.ssh
for c in $containers; do /usr/bin/docker commit --pause=false $c by-hand-$c >/dev/null; done
for c in $containers; do /usr/bin/docker unpause $c >/dev/null; done
/usr/bin/docker save $(for c in $containers; do echo by-hand-$c; done) > docker-images.tar
for c in $containers; do /usr/bin/docker rmi by-hand-$c >/dev/null; done
tar -cf ../by-hand.tar . && rm -rf ../by-hand && lrzip -q -L 2 -o ../by-hand.tar.lrz ../by-hand.tar && rm -f ../by-hand.tar
HAND
ours() { rm -rf "$work/library"; /usr/bin/time -f %e -o "$work/time" env XDG_STATE_HOME="$work/state" target/release/tanker -q -i "$work/inventory.toml" backup > "$work/out" && cat "$work/time"; }
# shellcheck disable=SC2046
hand() { ssh $(ssh_options) root@127.0.0.1 bash -s < "$work/by-hand" && scp $(ssh_options) root@127.0.0.1:/var/backup/fuel/by-hand.tar.lrz "$work/got"; }
theirs() { local began; began=$(date +%s%N); hand >/dev/null; awk "BEGIN { printf \"%.2f\\n\", ($(date +%s%N) - $began) / 1e9 }"; $lab exec m rm -f /var/backup/fuel/by-hand.tar.lrz; }
# step_seconds FROM TO: between the beginnings of two steps of the last backup.
step_seconds() {
  awk -v first="$1" -v last="$2" '$2 == first { from = $1 } $2 == last { to = $1 } function t(s) { split(s, a, /[T:Z]/); return a[2] * 3600 + a[3] * 60 + a[4] } END { printf "%.2f\n", (t(to) - t(from) + 86400) % 86400 }' "$(find "$work/state/tanker/runs" -name m.log -path '*backup*' | sort | tail -n 1)"
}
if wanted whole; then
compare "whole backup on loopback, against by hand" s "1.05"
row "from the end of lrzip to the end of the transfer, on loopback" s "$(step_seconds digest prove)" 0 "2"
fi
if wanted slow; then
# A line over which the transfer takes as long as lrzip: what lrzip took is in the log of the run. The master has one core and the workstation
# the other, with the line: on two that both share, tanker's cipher takes from the lrzip that it waits for, as no workstation does.
# What it starts from now on stays there, too.
master_on() { $lab exec m bash -c "for process in /proc/[0-9]*; do taskset -acp $1 \${process#/proc/} >/dev/null 2>&1; done; [ \$(nproc) = $2 ]"; }
master_on 0 1
taskset -cp 1 $$ >/dev/null
ours >/dev/null
archive_bytes=$(find "$work/library" -name '*.lrz' -printf '%s\n' | head -n 1)
rate=$(awk "BEGIN { printf \"%d\", $archive_bytes / $(step_seconds compress digest) }")
line 20 "$rate"
compare "whole backup at $((rate / 1000000)) MB/s, as fast as lrzip, against by hand" s "0.6"
taskset -cp 0-1 $$ >/dev/null
master_on 0-1 2
line 0 0
fi
wanted back || { report transfer; exit; }

# ---- and back ---------------------------------------------------------------------------------------------------------
# By hand: scp, and the stock tool's own restore. That leaves nailgun without its client's password on 8.0, so ours doesn't ask it for tasks.
line "$trip" 0
[ -d "$work/library" ] || tanker backup --no-spool
tanker export m@latest --to "$work/stock"
exported=$(find "$work/stock" -name 'fuel_backup_*')
there=/var/backup/fuel/${exported##*/}
ours() { seconds env XDG_STATE_HOME="$work/state" target/release/tanker -q -i "$work/inventory.toml" restore m@latest --to m --yes --ignore-tasks; }
# shellcheck disable=SC2046,SC2029
hand() { scp $(ssh_options) "$exported" "root@127.0.0.1:$there" && ssh $(ssh_options) root@127.0.0.1 /var/lab/bin/dockerctl-stock restore "$there"; }
theirs() { local began; began=$(date +%s%N); hand >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }; awk "BEGIN { printf \"%.2f\\n\", ($(date +%s%N) - $began) / 1e9 }"; $lab exec m rm -f "$there"; }
compare "whole restore at $trip ms, against scp and the stock tool's" s "0.7"

report transfer
