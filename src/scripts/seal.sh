# Hashes the blocks of a file as they arrive, with all cores, and gives it its name when each is what was sent. Where some aren't, those are struck
# off the list, to be asked for again, and the code is 8.
# usage: seal.sh JOB NAME LENGTH SHA256     SHA256 of the blocks' own digests in hex, in order, a line each

# check_each FIRST STEP: waits for every STEPth block and holds it against the digest that came with it.
check_each() {
  local n idle=0 alone=0 index sum rest part_of_a_line=''; local -a here=()
  exec 8< "$part.blocks" || return 1
  for ((n = $1; n < count; n += $2)); do
    while hear; [ -z "${here[n]:-}" ]; do
      # Its own shell is gone: another one is at work by now.
      kill -0 $$ 2>/dev/null || return 1
      if [ $((idle++)) -gt 600 ]; then
        # Whoever pushes may be gone: nobody needs this then. Or its lines have broken, and it makes them again.
        if receives "$job" $$; then alone=0; elif [ $((alone++)) -ge 2 ]; then echo "nobody pushes any more" >&2; return 1; fi
        idle=0
      fi
      sleep 0.1
    done
    sum=$(set -o pipefail; dd if="$part" bs=65536 skip=$((n * (block_bytes / 65536))) count=$((block_bytes / 65536)) 2>/dev/null | $hasher) || return 1
    [ "${sum%% *}" = "${here[n]}" ] || echo "$n" >> "$part.wrong" || return 1
    # How far this is, for whoever wonders whether somebody is at work.
    echo "$n" > "$job/hashed" || return 1
  done
}
# All that has been written down by now. A line that is still being written is read in two pieces.
hear() {
  while IFS= read -r rest <&8; do
    rest=$part_of_a_line$rest index=${rest%% *} part_of_a_line=''
    case $index in ''|*[!0-9]*) ;; *) here[index]=${rest#* }; idle=0 ;; esac
  done
  part_of_a_line=$part_of_a_line$rest
}

strike_off() {
  awk 'NR == FNR { wrong[$1] = 1; next } !($1 in wrong)' "$part.wrong" "$part.blocks" > "$part.right" && mv "$part.right" "$part.blocks" && rm -f "$part.wrong"
}

# The digests that came, of each block the last one, in order.
digest_of_digests() { awk -v count="$count" '{ sum[$1] = $2 } END { for (n = 0; n < count; n++) print sum[n] }' "$part.blocks" | sha256sum; }

main() {
  local job=$1 file=$1/$2 length=$3 sum=$4 got part=$1/$2.part count workers n pid failed=0 hasher; local -a pids=()
  job_dir "$job"
  [ ! -e "$file" ] || return 0
  count=$(((length + block_bytes - 1) / block_bytes))
  : >> "$part.blocks" && : > "$part.wrong" && printf '%s %s seal\n' "$$" "$(process_start $$)" > "$job/receiver.$$" || die "$job can't be written: is the disk full?"
  find_hasher
  workers=$(nproc 2>/dev/null || echo 2)
  [ "$workers" -le 4 ] || workers=4
  for ((n = 0; n < workers; n++)); do check_each "$n" "$workers" & pids+=($!); done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [ $failed = 0 ] || die "what arrived can't be read"
  got=$(digest_of_digests)
  if [ -s "$part.wrong" ]; then
    strike_off || die "$job can't be written: is the disk full?"
    echo "what arrived has another SHA-256 than what was sent" >&2
    exit 8
  fi
  if [ "$(stat -c %s "$part")" != "$length" ] || [ "${got%% *}" != "$sum" ]; then
    # Each block is what it says, and yet it is not what was to come: nothing of it is worth keeping.
    rm -f "$part" "$part.blocks" "$part.wrong"
    echo "what arrived has another SHA-256 than what was sent" >&2
    exit 8
  fi
  mv "$part" "$file" && rm -f "$part.blocks" "$part.wrong" "$job/receiver.$$" "$job/hashed" || die "$file can't be written"
  renew_lease "$job"
}
main "$@"
