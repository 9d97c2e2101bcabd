# Hashes a file block by block as its blocks arrive, and gives it its name when length and digest of the whole are right. Where they aren't, the
# blocks that are wrong are struck off the list, to be asked for again, and the code is 8.
# usage: seal.sh JOB NAME LENGTH SHA256

# Blocks that lie behind one another are read in one go, up to so many.
most=16

blocks_in_order() {
  local n next idle=0 index rest part_of_a_line=''; local -a here=()
  exec 8< "$part.blocks" || return 1
  for ((n = 0; n < count; n = next)); do
    while hear; [ -z "${here[n]:-}" ]; do
      # Its own shell is gone: another one is at work by now.
      kill -0 $$ 2>/dev/null || return 1
      if [ $((idle++)) -gt 600 ]; then
        # Whoever pushes may be gone: nobody needs this then.
        receives "$job" $$ || { echo "nobody pushes any more" >&2; return 1; }
        idle=0
      fi
      sleep 0.1
    done
    for ((next = n + 1; next < count && next < n + most; next++)); do [ -n "${here[next]:-}" ] || break; done
    dd if="$part" bs=65536 skip=$((n * (block_bytes / 65536))) count=$(((next - n) * (block_bytes / 65536))) 2>/dev/null && echo "$n" > "$job/hashed" || return 1
  done
}
# All that has been written down by now. A line that is still being written is read in two pieces.
hear() {
  while IFS= read -r rest <&8; do
    index=$part_of_a_line$rest; index=${index%% *} part_of_a_line=''
    case $index in ''|*[!0-9]*) ;; *) here[index]=1; idle=0 ;; esac
  done
  part_of_a_line=$part_of_a_line$rest
}

strike_off() {
  local index sum got n=0
  while read -r index sum; do
    echo "again $index" > "$job/hashed" || return 1
    got=$(dd if="$part" bs=65536 skip=$((index * (block_bytes / 65536))) count=$((block_bytes / 65536)) 2>/dev/null | sha256sum)
    if [ "${got%% *}" = "$sum" ]; then echo "$index $sum"; else n=$((n + 1)); fi
  done < "$part.blocks" > "$part.right"
  mv "$part.right" "$part.blocks"
  # None of them is wrong, and yet the whole is: nothing of it is worth keeping.
  [ "$n" -gt 0 ] || rm -f "$part" "$part.blocks"
}

main() {
  local job=$1 file=$1/$2 length=$3 sum=$4 got part=$1/$2.part count
  job_dir "$job"
  [ ! -e "$file" ] || return 0
  count=$(((length + block_bytes - 1) / block_bytes))
  : >> "$part.blocks" && printf '%s %s seal\n' "$$" "$(process_start $$)" > "$job/receiver.$$" || die "$job can't be written: is the disk full?"
  got=$(set -o pipefail; blocks_in_order | sha256sum) || die "what arrived can't be read"
  if [ "$(stat -c %s "$part")" != "$length" ] || [ "${got%% *}" != "$sum" ]; then
    strike_off
    echo "what arrived has another SHA-256 than what was sent" >&2
    exit 8
  fi
  mv "$part" "$file" && rm -f "$part.blocks" "$job/receiver.$$" "$job/hashed" || die "$file can't be written"
  renew_lease "$job"
}
main "$@"
