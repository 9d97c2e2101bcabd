# The part of a restore that changes nothing the master uses (I4): unpacks the archive that was pushed, stages the host
# directories beside the ones in use, loads the images under names of their own.
# usage: run.sh JOB STOCK_ID     (and the files containers, directories, volumes, members)
# before.containers: a line each: SERVICE NAME IMAGE of what is there now;  containers: of those to be replaced;  brought: IMAGE of all that the archive has;  directories: /PATH;  volumes: MEMBER SERVICE PATH;  members: SIZE NAME

load_images() {
  local file service image
  [ -s "$job/containers" ] || return 0
  # A tar with all images brings those too that are not wanted: they are removed again like the others.
  while read -r image; do echo "${image}_$stock_id" >> "$job/images" || return 1; done < "$job/brought"
  while read -r service _ image; do
    file="$job/x/${image//\//__}_$stock_id.tar"
    [ ! -f "$file" ] || { load_tar "$file" && rm -f "$file" || return 1; }
  done < "$job/containers"
  file=$job/x/docker-images.tar
  [ ! -f "$file" ] || { load_tar "$file" && rm -f "$file" || return 1; }
  while read -r service _ image; do
    docker inspect "${image}_$stock_id" >/dev/null || { echo "the archive brought no image for $service"; return 1; }
  done < "$job/containers"
}

# Docker loads while the trees are unpacked: one waits for its digests, the other for the disk. What it says is kept apart, for the last
# words of a failure are those of the step that failed.
begin_loading() { load_images > "$job/loading" 2>&1 & loader=$(child $!); }
end_loading() { local code=0; wait "${loader%% *}" || code=$?; loader=; [ $code -eq 0 ] || cat "$job/loading"; return $code; }

# What works is asked while images are loaded: the cutover, which needs to know it, begins the sooner. When that was is noted, for loading can take
# long; where it can't be asked now the cutover asks, and says so.
note_what_works_now() { local began; began=$(uptime_seconds); note_what_works && echo "$began" > "$job/noted"; }
begin_noting() { note_what_works_now > "$job/noting" 2>&1 9>&- & noting=$(child $!); }
end_noting() { local pid=${noting%% *}; noting=; wait "$pid" || note "what works is asked again: $(words_of "$job/noting")"; }

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  [ $code -ne 0 ] || return
  say_failure "stopped with code $code: $(last_words)"
  # An image that came when the others had been removed would stay.
  if [ -n "$loader" ]; then kill_child "$loader"; wait "${loader%% *}" 2>/dev/null; sleep 1; fi
  kill_child "$noting"
  remove_staged "$job"; remove_images "$job" || note "loaded images could not be removed"
  rm -rf "$job/x" "$job/root" "$job/archive.tar"
}

# What an earlier run of the same restore left is in the way; only the archive that was pushed is used again.
begin_anew() {
  remove_staged "$job"
  rm -rf --one-file-system "$job/prepared" "$job/swapped" "$job/touched" "$job/replaced" "$job/used" "$job/before" "$job/x" "$job/root" "$job/volume" "$job/archive.tar" "$job/staged" "$job/loading" "$job/noted"
}

main() {
  job=$1; job_dir "$job"
  loader='' noting=''
  [ ! -e "$job/cutover" ] || die "a restore is half done in $job"
  : > "$job/events"
  sign_job "$1"; begin_job
  begin_anew
  stock_id=$2
  local member service
  trap on_exit EXIT
  trap 'exit 143' TERM INT HUP
  step unpack
  attempt unpack_archive
  attempt check_members
  begin_loading
  begin_noting
  step stage
  attempt unpack_tree system-dirs.tar "$job/root"
  while read -r member service _; do attempt unpack_tree "$member" "$job/volume/$member"; done < "$job/volumes"
  attempt stage_directories
  step load
  attempt end_loading
  end_noting
  : > "$job/prepared"
  # The cutover begins with all of this on the disk: it is on its way there while tanker looks at the master once more.
  setsid sync </dev/null >/dev/null 2>&1 9>&- &
  event finished
}
main "$@"
