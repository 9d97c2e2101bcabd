#!/bin/bash
# Writes docs/cookbook.md: every way to back up and to restore, run against two masters of the lab, with what the program printed. Ends with
# code 0 only if every command ended as it should; --check writes nothing and compares with what is there, but for numbers.
# usage: tests/cookbook.sh [--check]
# shellcheck disable=SC2016 # the backticks are Markdown's
set -euo pipefail
cd "$(dirname "$0")/.."
export TANKER_LAB=cookbook
lab=$PWD/tests/lab/lab root=$PWD page=docs/cookbook.md
tests/prepare.sh
cargo build --locked --quiet
work=$(mktemp -d)
trap '"$lab" down; rm -rf "$work"' EXIT
"$lab" down
"$lab" up east --fuel 5.1
"$lab" up west --fuel 8.0
lab_inventory=$("$lab" inventory)
address() { awk -v host="[hosts.$1]" '$0 == host { found = 1 } found && /^address/ { gsub(/"/, "", $3); print $3; exit }' "$lab_inventory"; }
east=$(address east) west=$(address west)
mkdir -p "$work/home" "$work/vault"
export HOME=$work/home
identity=$(sed -n 's/^identity = \["\(.*\)"\]$/\1/p' "$lab_inventory") known=$(sed -n 's/^known_hosts = "\(.*\)"$/\1/p' "$lab_inventory")
cat > "$work/home/inventory.toml" <<INVENTORY
[defaults]
ssh_config = "none"
library = "~/tanker"
identity = ["$identity"]
known_hosts = "$known"
agent = false
[hosts.east]
address = "$east"
[hosts.west]
address = "$west"
[remotes.vault]
url = "file://$work/vault"
INVENTORY
sed -e "/^\[hosts.west\]/,\$d; s/^address = .*/&\njump = [\"root@$west\"]/" "$work/home/inventory.toml" > "$work/home/behind.toml"
cd "$work/home"
export PATH=$root/target/debug:$PATH

text=''
say() { text+="$*"$'\n'; }
# The names of this run are those of nobody's masters.
clean() { sed -e "s|$work/home|~|g; s|$work/vault|/mnt/vault|g; s|$east|10.20.0.2|g; s|$west|10.21.0.2|g; s|$identity|~/.ssh/id_ed25519|g" -e 's/[[:space:]]*$//'; }
quoted() { local word; for word in "$@"; do case $word in *[!a-zA-Z0-9@./_=:-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac; done; }
# run CODE COMMAND...: shows a command and what it printed
run() {
  local expected=$1 code=0 shown
  shift
  shown=$("$@" 2>"$work/said") || code=$?
  [ "$code" = "$expected" ] || { echo "cookbook: '$*' ended with $code: $shown $(tail -n 5 "$work/said")" >&2; exit 1; }
  text+=$(printf '$%s\n%s' "$(quoted "$@")" "$shown" | clean)$'\n'
}
begin() { say; say '```text'; }
end() { say '```'; say; }
on_master() { "$lab" exec "$@" >/dev/null; }

say '# Cookbook'
say
say 'Every way to back up and to restore, each with what the program printed when `tests/cookbook.sh` wrote this page against two masters of the lab: east (Fuel 5.1) and west (Fuel 8.0). What goes wrong stands in `docs/operations.md`.'
say
say '## Back up'
say
say '### One master'
begin; run 0 tanker check east; run 0 tanker backup east; run 0 tanker list; end
say '### All of them, or some'
begin; run 0 tanker backup; run 0 tanker backup 'w*' --limit '!east' --dry-run; end
say 'One that fails keeps no other from being backed up; the exit code is that of the most serious one, and `@failed` names those of the last run.'
say
say '### Through a jump host'
say
say '`jump = ["root@10.21.0.2"]` in the inventory, or `ProxyJump` in `~/.ssh/config`; each host on the way has its own key check.'
begin; run 0 tanker -i behind.toml backup; end
say '### Without images and packages, or for a master without room'
begin; run 0 tanker backup west --light; run 0 tanker backup west --no-spool; end
say '### A second place'
begin; run 0 tanker sync --to vault; run 0 tanker list --remote vault; run 0 tanker verify --remote vault --all; end
say '### Look after it'
begin; run 0 tanker verify --all --deep; run 0 tanker forget --keep-last 1; run 0 tanker drill west@latest --on west; run 0 tanker report; end

say '## Restore'
say
say '### What would happen'
begin; run 0 tanker restore west@latest --to west --dry-run; end
say '### A part of it'
on_master west bash -c 'rm -r /etc/puppet/*'
begin; run 0 tanker restore west@latest --to west --only config --yes; end
say '### One file'
begin; run 0 tanker files east@latest; run 0 tanker extract east@latest etc/fuel/astute.yaml --to out; run 0 grep -A 1 ADMIN_NETWORK -r out; end
text=$(printf '%s' "$text" | awk '/^\$ tanker files /{ print; n = 0; short = 1; next } /^\$ /{ if (short && n > 4) print "…"; short = 0 } short { if (n++ < 4) print; next } { print }')$'\n\n'
say '### A dead master, and only this laptop'
say
say 'A machine with the same Fuel release and the same admin network stands in its place; its key is another one, and refused until somebody has compared it.'
"$lab" rebuild east >/dev/null
begin; run 4 tanker check east; run 0 tanker trust east --rebuilt --yes; run 0 tanker restore east@latest --to east --yes; end
"$lab" oracle east >&2
say '### From the second place, with the library gone'
mv "$work/home/tanker" "$work/lost"
begin; run 0 tanker restore west@latest --from vault --to west --yes; end
"$lab" oracle west >&2
say '### An archive of the stock tool'
file=$("$lab" exec west /var/lab/bin/dockerctl-stock backup | tail -n 1)
"$lab" exec west cat "$file" > "$work/home/${file##*/}"
begin; run 0 tanker import "${file##*/}" --host west-of-old; run 0 tanker restore west-of-old@latest --to west --yes; end
say '### For the stock tool, on a master without tanker'
begin; run 0 tanker export west@latest --to out; end
exported=$(find out -name 'fuel_backup_*' | head -n 1)
"$lab" rebuild west >/dev/null
"$lab" exec west sh -c "cat > '/var/backup/fuel/${exported##*/}'" < "$exported"
"$lab" exec west /var/lab/bin/dockerctl-stock restore "/var/backup/fuel/${exported##*/}" >/dev/null
"$lab" oracle west >&2
say "There: \`dockerctl restore /var/backup/fuel/${exported##*/}\`."
say
say '### By hand, without tanker'
cd "$(dirname "$(find "$work/home/tanker/west" -name manifest.json | head -n 1)")"
archive=$(ls -- *.lrz)
begin; run 0 sha256sum -c SHA256SUMS; run 0 sh -c "lrzip -q -d -o - $archive | tar -t"; end
say 'What each member is, and what to do with it: `docs/archive-format.md`.'

cd "$root"
# Numbers, ids and names that another run makes otherwise.
shape() { sed -E 's/SHA256:[A-Za-z0-9+\/]+…?/KEY/g; s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/N/g; s/[0-9]+(\.[0-9]+)? (B|KiB|MiB|GiB|ms|s|min|m|h|d)\b/N/g; s/just now/N/g; s/[0-9a-f]{64}/N/g; s/[0-9][0-9._:-]*/N/g; s/N (m|h|d) N/N/g; s/\(N( N)+\)/(N)/g; s/ +/ /g'; }
if [ "${1:-}" = --check ]; then
  # Two masters at once end in any order.
  diff <(shape < "$page" | sort) <(printf '%s' "$text" | shape | sort) || { echo "cookbook: $page differs from what the program prints: tests/cookbook.sh writes it anew" >&2; exit 1; }
  echo "cookbook: $page is what the program prints"
else
  printf '%s' "$text" > "$page"
  echo "written: $page"
fi
