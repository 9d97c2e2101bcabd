#!/bin/bash
# The tour: two real Fuel masters of the lab, backed up over SSH, one of them destroyed, rebuilt and restored. Prints each
# command it runs; ends with code 0 only if every check holds.
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=demo
lab=tests/lab/lab

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
# A command that must be refused with this exit code.
refused() { local code=$1 got=0; shift; printf '$ %s\n' "$*"; "$@" || got=$?; [ "$got" = "$code" ] || fail "exit code $got instead of $code"; echo "(exit code $got, as it should be)"; }
fail() { echo "demo: $*" >&2; exit 1; }
tanker() { target/debug/tanker -i "$inventory" "$@"; }
sql() { $lab exec east docker exec fuel-core-5.1-postgres /usr/lib/postgresql/15/bin/psql -h /var/run/postgresql -U postgres -qtA nailgun -c "$1"; }

# What the masters need tests/lab/lab installs itself.
tests/prepare.sh lrzip openssh-client
say "Build tanker"
run cargo build --locked --quiet
trap '$lab down' EXIT
$lab down

say "Two masters of different releases, with a database that is being written to"
run $lab up east --fuel 5.1
run $lab up west --fuel 8.0
inventory=$($lab inventory)

say "Something to lose: a manifest of our own, and a row in nailgun's database"
run $lab exec east bash -c 'echo "node controller { include ours }" > /etc/puppet/manifests/ours.pp'
checksum=$($lab exec east sha256sum /etc/puppet/manifests/ours.pp)
run sql "insert into nodes (uuid, name, mac) values ('before', 'before the backup', 'x')"

say "Look first: nothing is changed by this"
run tanker check

say "Back both up at once"
run tanker backup
run tanker list
run tanker verify --all --deep

say "After the backup a row more, and a file less"
run sql "insert into nodes (uuid, name, mac) values ('after', 'after the backup', 'x')"
run $lab exec east rm /etc/puppet/manifests/ours.pp

say "The disaster: east is gone, and a factory-fresh one stands in its place"
run $lab rebuild east
say "It has another host key, which is refused until you say otherwise"
refused 4 tanker check east
run tanker trust east --rebuilt --yes

say "Bring it back"
run tanker restore east@latest --to east --yes

say "Is it?"
run $lab oracle east
[ "$($lab exec east sha256sum /etc/puppet/manifests/ours.pp)" = "$checksum" ] || fail "the deleted file did not come back as it was"
echo "the deleted file is back, with the same checksum"
[ "$(sql "select name from nodes where uuid in ('before', 'after')")" = "before the backup" ] || fail "the rows are not those of the backup"
echo "the row from before the backup is there, the one from after it is gone"
run $lab exec east fuel task --list
[ "$($lab exec east docker ps -q --filter status=running | wc -l)" = 11 ] || fail "not every container runs"
echo "all 11 containers run"
say "That was it."
