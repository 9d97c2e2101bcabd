#!/bin/bash
# How long a look at many hosts takes: `tanker check` against Ansible gathering as much (its setup module, and the same commands), with
# the same forks, pipelining on, against one sshd on loopback addresses whose MaxStartups is the default. Docker and the fuel client are
# played by scripts that only answer: what is measured is everything around them. In turn, medians.
# usage: tests/bench-fleet.sh [HOSTS] [FORKS] [RUNS]     (200 20 3 unless said)
set -euo pipefail
cd "$(dirname "$0")/.."
hosts=${1:-200} forks=${2:-20} runs=${3:-3}
tests/prepare.sh openssh-server openssh-client ansible-core time
cargo build --locked --quiet --release
work=$(mktemp -d)
trap 'kill "$(cat "$work/sshd.pid")" 2>/dev/null || true; rm -rf "$work"' EXIT # it may not have come as far as a server

# ---- a host that looks like a master, in a mount namespace of its own -------------------------------------------------
mkdir -p "$work"/{bin,fuel,keys,spool} /etc/fuel /var/backup/fuel /run/sshd
# Whatever this machine runs at a login is no part of it: root has an empty home there.
printf 'VERSION:\n  release: "6.1"\n' > "$work/fuel/version.yaml"
printf 'HOSTNAME: fuel\nADMIN_NETWORK:\n  ipaddress: 10.20.0.2\n' > "$work/fuel/astute.yaml"
services="postgres rabbitmq keystone rsync astute rsyslog nailgun ostf nginx cobbler mcollective"
for s in $services; do
  printf '{"Id":"%064d","Name":"/fuel-core-6.1-%s","Image":"i","State":{"Running":true,"Paused":false},"Config":{"Image":"fuel/%s_6.1"},"Volumes":{}},' 1 "$s" "$s"
done | sed 's/^/[/; s/,$/]/' > "$work/containers.json"
cat > "$work/bin/docker" <<DOCKER
#!/bin/sh
case \$1 in
  -v) echo 'Docker version 1.4.1, build 5bc2ff8' ;;
  ps) for n in 1 2 3 4 5 6 7 8 9 10 11; do echo c\$n; done ;;
  images) echo i ;;
  inspect) [ "\$2" = i ] && echo '[{"Id":"i","Size":1}]' || cat $work/containers.json ;;
esac
DOCKER
printf '#!/bin/sh\necho "[]"\n' > "$work/bin/fuel"
for tool in lrzip dockerctl supervisorctl; do printf '#!/bin/sh\necho %s\n' "$tool" > "$work/bin/$tool"; done
chmod 755 "$work"/bin/*
ssh-keygen -q -t ed25519 -N '' -f "$work/keys/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/keys/user"
cp "$work/keys/user.pub" "$work/keys/authorized"
cat > "$work/sshd_config" <<SSHD
Port 2299
ListenAddress 0.0.0.0
HostKey $work/keys/host
PidFile $work/sshd.pid
AuthorizedKeysFile $work/keys/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
LogLevel QUIET
SSHD
unshare -m bash -c "mount --make-rprivate / && mount --bind $work/fuel /etc/fuel && mount --bind $work/bin /usr/local/sbin && mount --bind $work/spool /var/backup/fuel && mount -t tmpfs tmpfs /root && exec /usr/sbin/sshd -f $work/sshd_config"
printf '[*]:2299 %s\n' "$(cut -d' ' -f1,2 "$work/keys/host.pub")" > "$work/known_hosts"

# ---- the same hosts for both ------------------------------------------------------------------------------------------
{
  printf '[defaults]\nssh_config = "none"\nport = 2299\nagent = false\nidentity = ["%s"]\nknown_hosts = "%s"\nlibrary = "%s"\n' "$work/keys/user" "$work/known_hosts" "$work/library"
  for ((n = 1; n <= hosts; n++)); do printf '[hosts.m%03d]\naddress = "127.0.%d.%d"\n' "$n" $((n / 250 + 1)) $((n % 250 + 1)); done
} > "$work/inventory.toml"
for ((n = 1; n <= hosts; n++)); do printf 'm%03d ansible_host=127.0.%d.%d\n' "$n" $((n / 250 + 1)) $((n % 250 + 1)); done > "$work/hosts.ini"
cat > "$work/ansible.cfg" <<CFG
[defaults]
inventory = $work/hosts.ini
forks = $forks
remote_user = root
remote_port = 2299
private_key_file = $work/keys/user
interpreter_python = /usr/bin/python3
stdout_callback = minimal
local_tmp = $work/ansible-tmp
[ssh_connection]
pipelining = True
retries = 10
ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=$work/known_hosts -o GlobalKnownHostsFile=/dev/null
control_path_dir = $work/cp
CFG
cat > "$work/check.yml" <<'PLAY'
- hosts: all
  gather_facts: true
  tasks:
    - shell: |
        cat /etc/fuel/version.yaml; cat /etc/fuel/astute.yaml; df -Pk /var/backup/fuel /var/lib; docker -v
        docker inspect $(docker ps -aq --no-trunc); docker inspect $(docker images -q --no-trunc | sort -u)
        for t in bash tar lrzip docker fuel dockerctl supervisorctl setsid flock sha256sum; do command -v $t; done
        du -skx /etc/fuel; ls /var/backup/fuel
    - shell: fuel task --list --json
PLAY

# shellcheck source=tests/bench.sh
. tests/bench.sh
ours='' theirs='' memory=0
for ((run = 1; run <= runs; run++)); do
  rm -rf "$work/cp"
  /usr/bin/time -f '%e %M' -o "$work/time" env XDG_STATE_HOME="$work/state" target/release/tanker -q -i "$work/inventory.toml" check --forks "$forks" --json > "$work/recap.json" || { cat "$work/recap.json"; exit 1; }
  [ "$(tail -n 1 "$work/recap.json" | grep -o '"outcome":"ok"' | wc -l)" -eq "$hosts" ] || { echo "tanker did not reach every host"; exit 1; }
  read -r seconds kib < "$work/time"
  ours="$ours$seconds
"
  [ "$kib" -le "$memory" ] || memory=$kib
  ANSIBLE_CONFIG=$work/ansible.cfg /usr/bin/time -f %e -o "$work/time" ansible-playbook "$work/check.yml" > "$work/ansible.log" 2>&1 || echo "ansible: $(grep -c UNREACHABLE "$work/ansible.log") hosts were refused"
  read -r slow < <(tail -n 1 "$work/time")
  theirs="$theirs$slow
"
  echo "run $run of $runs: tanker $seconds s, ansible $slow s"
done
row "check of $hosts hosts, $forks forks, against ansible" s "$(printf %s "$ours" | median)" "$(printf %s "$theirs" | median)" 1/20
row "its memory, against the aim" MiB $((memory / 1024)) 100 1
report fleet
