# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts behind it use what is set here
# What every script that tanker runs on a master shares. It is put in front of the script before it is sent, alone where the script is asked for
# again and again: a slow line carries it each time.
# bash 4.1 and coreutils 8.4 (CentOS 6) only.
set -u
# What an operator has told Docker's client of how to print is not for here.
export DOCKER_CONFIG=/nonexistent
export LC_ALL=C HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 077
tanker_root=${TANKER_ROOT:-/var/backup/fuel/tanker}
# What is compared, sent again and resumed by: the same as in src/library/blocks.rs.
block_bytes=4194304

# One fact: a name, the length of its value in bytes, the value. The length is what makes any value safe to send.
emit() { printf '@%s %d\n%s\n' "$1" "${#2}" "$2"; }

die() { echo "$*" >&2; exit 1; }
# A code of its own: it was refused, and did not fail.
refuse() { echo "$1" >&2; exit 9; }

# Seconds since boot with hundredths: unlike the clock, nobody sets it back.
uptime_seconds() { local up; read -r up _ < /proc/uptime; echo "${up%.*}"; }
now_ms() { local ns; ns=$(date +%s%N); echo $((ns / 1000000)); }

# Under another name first: who reads it meanwhile must not find it empty.
renew_lease() { uptime_seconds > "$1/lease.$$" && mv "$1/lease.$$" "$1/lease"; }

# A job's folder, refused unless it lies where tanker puts jobs: what follows may remove it.
job_dir() {
  case $1 in
    "$tanker_root"/*[!a-zA-Z0-9._-]*) die "'$1' is no job of tanker" ;;
    "$tanker_root"/[0-9a-z]*) ;;
    *) die "'$1' is no job of tanker" ;;
  esac
}

# Alive means: the very process that the job recorded, not another one with its number.
job_alive() {
  local pid start
  read -r pid start 2>/dev/null < "$1/pid" || return 1
  is_still "$pid" "$start"
}
# is_still PID START: a number alone may be another process's by now.
is_still() { [ -n "${2:-}" ] && [ "$(process_start "$1")" = "$2" ]; }
# When it began, in ticks since boot. Without a program: it is asked for with every block that is sent.
process_start() {
  local stat; local -a words
  read -r stat 2>/dev/null < "/proc/$1/stat" || return
  # shellcheck disable=SC2206 # to be split: what stands in front of it is a name
  words=(${stat##*) })
  echo "${words[19]:-}"
}

# mark_reader FILE PID: says in a job's folder that a process reads this file of it: its owner brings it home, though the job
# has ended.
mark_reader() {
  local folder=${1%/*}
  [ "${folder%/*}" != "$tanker_root" ] || printf '%s %s\n' "$2" "$(process_start "$2")" > "$folder/reader"
}
