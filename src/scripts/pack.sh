# shellcheck shell=bash
# From what was captured to an archive: members go into the outer tar, lrzip packs it, its blocks get their digests. It stands between freeze.sh
# and backup.sh, whose variables it uses: job, spool, patience, images_form, stock_id, block_bytes.

save_images() {
  local name image save; local -a images=()
  while read -r name image _ save; do
    [ "$save" = image ] || continue
    if [ "$images_form" = together ]; then images+=("${image}_$stock_id"); continue; fi
    save_as "${image//\//__}_$stock_id.tar" "${image}_$stock_id" || return 1
  done < "$job/containers"
  [ "$images_form" = together ] && [ ${#images[@]} -gt 0 ] || return 0
  save_as docker-images.tar "${images[@]}"
}
save_as() {
  local member=$1; shift
  if [ "$spool" = pipe ]; then into_member "$member" timeout "$patience" docker save "$@"
  else append_output "$member" timeout "$patience" docker save "$@"; fi
}

# Without a spool: what the freeze left in the job's folder, and the images. tanker joins the passes.
send_the_rest() {
  each_tree send_second_pass
  attempt into_member tanker.json cat "$job/description.json"
  attempt save_images
  remove_images "$job" || note "temporary images could not be removed"
}
send_second_pass() {
  deleted_of "$1" > "$job/$1.deleted" || return 1
  [ ! -s "$job/$1.deleted" ] || into_member "$1.deleted" cat "$job/$1.deleted" || return 1
  [ ! -s "$job/$1.delta" ] || into_member "$1.delta" cat "$job/$1.delta"
}

# Moves a member into the outer tar, so that nothing lies on the disk twice for longer than it must. Not by tar's own -r, which reads all that
# stands there before: the two blocks that end a tar come behind the last member.
append() {
  (cd "$job/a" && stat -c '%s %n' "$1") >> "$job/contents" || return 1
  make_head "$1" && cat "$job/head" "$job/a/$1" >> "$job/outer.tar" && truncate -s %512 "$job/outer.tar" && rm -f "$job/a/$1" "$job/head"
}
# make_head NAME: what stands before it in a tar, by tar itself.
make_head() {
  local -a codes
  # A longer name would need a second head.
  [ ${#1} -lt 100 ] || { echo "the name $1 is too long for a member"; return 1; }
  # Where the head ends nobody reads on: tar's own code says nothing.
  tar --format=gnu --numeric-owner -b 1 -cf - -C "$job/a" "$1" 2>/dev/null | head -c 512 > "$job/head"
  codes=("${PIPESTATUS[@]}")
  [ "${codes[1]}" = 0 ] && [ "$(stat -c %s "$job/head")" = 512 ]
}
end_outer() { truncate -s +1024 "$job/outer.tar"; }

# append_output NAME COMMAND...: what a command prints, written where it stays. Its head is put in front of it when its size is known: images
# are most of an archive, and would be written twice and read once more.
append_output() {
  local name=$1 at size
  shift
  at=$(stat -c %s "$job/outer.tar") && truncate -s +512 "$job/outer.tar" && "$@" >> "$job/outer.tar" || return 1
  size=$(($(stat -c %s "$job/outer.tar") - at - 512))
  echo "$size $name" >> "$job/contents" || return 1
  truncate -s +$(((512 - size % 512) % 512)) "$job/outer.tar" && truncate -s $size "$job/a/$name" || return 1
  make_head "$name" || return 1
  dd if="$job/head" of="$job/outer.tar" bs=512 seek=$((at / 512)) conv=notrunc 2>>"$job/log" && rm -f "$job/a/$name" "$job/head"
}

# lrzip cuts what it packs into as many blocks as it has threads, of 10 MiB at least, and writes none before those ahead of it. As many as cores
# are too few: one that is hard to pack leaves a core idle, and holds up all behind it, the longer the larger it is. What threads cost it in
# memory lrzip subtracts itself.
lrzip_threads_for() {
  local n=$(($(stat -c %s "$1") / 16777216))
  [ $n -gt 32 ] || n=32
  [ $n -lt 128 ] || n=128
  echo $n
}

# pack FILE ARCHIVE. The threads would share the cores evenly and end all at once, with nothing to fetch before: the blocks at the front, which
# are the oldest threads behind the one that reads, are preferred.
pack() {
  local code preferring
  lrzip -q -L 2 -p "$(lrzip_threads_for "$1")" -o "$2" "$1" 9>&- & packing=$!
  prefer_the_front & preferring=$!
  wait "$packing"; code=$?
  packing=
  # Its shell would say in the log how it ended.
  { kill "$preferring"; wait "$preferring"; } 2>/dev/null
  return $code
}
prefer_the_front() {
  local cores thread n
  exec 9>&-
  cores=$(nproc 2>/dev/null || echo 2)
  while kill -0 "$packing" 2>/dev/null; do
    n=0
    while read -r thread; do
      # One that has just ended can't be preferred any more.
      [ $((n++)) -gt "$cores" ] || renice -n 0 -p "$thread" >/dev/null 2>&1
    done < <(printf '%s\n' "/proc/$packing/task"/[0-9]* | sed 's/.*\///' | sort -n)
    sleep 0.5
  done
}

# The digest of each block, in one pass over the archive by as many as there are cores: tanker has most of it by then and waits for this, and
# asks again only for the blocks that lrzip went back to. What holds for all of them holds for the whole, which needs no digest of its own.
digest_archive() {
  local blocks workers n pid failed=0 hasher; local -a pids=()
  find_hasher
  blocks=$((($(stat -c %s "$1") + block_bytes - 1) / block_bytes))
  workers=$(nproc 2>/dev/null || echo 2)
  [ "$workers" -le 8 ] || workers=8
  for ((n = 0; n < workers; n++)); do digest_each "$1" "$n" "$workers" "$blocks" > "$job/blocks.$n" & pids+=($!); done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [ $failed = 0 ] && cat "$job"/blocks.[0-9]* | sort -n | cut -d' ' -f2 > "$job/blocks" && rm -f "$job"/blocks.[0-9]*
  [ $failed = 0 ] && [ "$(wc -l < "$job/blocks")" -eq $blocks ] && sha256sum < "$job/blocks" | cut -d' ' -f1 > "$job/sum"
}
# digest_each FILE FIRST STEP BLOCKS
digest_each() {
  local n sum
  set -o pipefail
  for ((n = $2; n < $4; n += $3)); do
    sum=$(dd if="$1" bs=65536 skip=$((n * (block_bytes / 65536))) count=$((block_bytes / 65536)) 2>/dev/null | $hasher) || return 1
    echo "$n ${sum%% *}"
  done
}
