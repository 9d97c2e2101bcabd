# The part of a restore that changes nothing the master uses (I4): unpacks the archive that was pushed, stages the host
# directories beside the ones in use, loads the images under names of their own.
# usage: run.sh JOB STOCK_ID     (and the files containers, directories, volumes, members)
# containers: a line each: SERVICE NAME IMAGE of those to be replaced;  brought: IMAGE of all that the archive has;  directories: /PATH;  volumes: MEMBER SERVICE PATH;  members: SIZE NAME

unpack_archive() {
  lrzip -q -d -o "$job/archive.tar" "$job/archive.tar.lrz" || return 1
  mkdir "$job/x" && tar --no-same-owner -xf "$job/archive.tar" -C "$job/x" && rm -f "$job/archive.tar"
}

check_members() {
  local size name
  while read -r size name; do
    [ "$(stat -c %s "$job/x/$name" 2>/dev/null)" = "$size" ] || { echo "the member $name is not as the manifest says"; return 1; }
  done < "$job/members"
}

# Unpacks a tree without what had gone between its two passes. Both passes stand behind one another: what stands twice ends up
# as it stands last. Never with --recursive-unlink, which empties a directory whose second pass brings only what changed.
unpack_tree() {
  local member=$1 to=$2 path said code; local -a without=()
  mkdir -p "$to" || return 1
  if [ -f "$job/x/$member.deleted" ]; then
    while IFS= read -r -d '' path; do
      case "/$path/" in */../*) echo "the list of deletions names $path"; return 1 ;; esac
      # A name with a newline can't stand in a list of lines; one file too many is what that costs.
      case $path in *$'\n'*) ;; *) printf '%s\n' "$path" || return 1 ;; esac
    done < "$job/x/$member.deleted" > "$job/deleted" || return 1
    without=(--anchored --no-wildcards -X "$job/deleted")
  fi
  said=$(tar "${tar_extract_flags[@]}" ${without[@]+"${without[@]}"} -xf "$job/x/$member" -C "$to" 2>&1)
  code=$?
  [ $code -ne 0 ] || return 0
  # A file whose other name was deleted between the passes: the second pass, which comes behind, brings it whole. Anything else
  # that tar says, or doesn't say, is a failure.
  [ $code -eq 2 ] && grep -q ': Cannot hard link to ' <<< "$said" &&
    ! grep -v -e ': Cannot hard link to ' -e ': Exiting with failure status' -e ': Ignoring unknown extended header keyword ' <<< "$said" && return 0
  echo "tar ended with code $code: $said"
  return 1
}

# Beside the directory in use, so that the cutover is a rename.
stage_directories() {
  local directory new
  while read -r directory; do
    if [ ! -d "$job/root$directory" ]; then
      # Not every release has keys there.
      [ "$directory" = /var/lib/fuel/keys ] && continue
      echo "the archive holds no $directory"; return 1
    fi
    new="$(dirname "$directory")/.tanker-new-${job##*/}-$(basename "$directory")"
    mkdir -p "$(dirname "$directory")" && echo "$new $directory" >> "$job/staged" && rm -rf --one-file-system "$new" &&
      mv -T "$job/root$directory" "$new" || return 1
  done < "$job/directories"
}

load_images() {
  local file service image
  [ -s "$job/containers" ] || return 0
  # A tar with all images brings those too that are not wanted: they are removed again like the others.
  while read -r image; do echo "${image}_$stock_id" >> "$job/images" || return 1; done < "$job/brought"
  while read -r service _ image; do
    file="$job/x/${image//\//__}_$stock_id.tar"
    [ ! -f "$file" ] || { timeout 7200 docker load < "$file" && rm -f "$file" || return 1; }
  done < "$job/containers"
  file=$job/x/docker-images.tar
  [ ! -f "$file" ] || { timeout 7200 docker load < "$file" && rm -f "$file" || return 1; }
  while read -r service _ image; do
    docker inspect "${image}_$stock_id" >/dev/null || { echo "the archive brought no image for $service"; return 1; }
  done < "$job/containers"
}

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  [ $code -ne 0 ] || return
  say_failure "stopped with code $code: $(last_words)"
  remove_staged "$job"; remove_images "$job" || note "loaded images could not be removed"
  rm -rf "$job/x" "$job/root" "$job/archive.tar"
}

# What an earlier run of the same restore left is in the way; only the archive that was pushed is used again.
begin_anew() {
  remove_staged "$job"
  rm -rf --one-file-system "$job/prepared" "$job/swapped" "$job/touched" "$job/replaced" "$job/before" "$job/x" "$job/root" "$job/volume" "$job/archive.tar" "$job/staged"
}

main() {
  job=$1; job_dir "$job"
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
  step stage
  attempt unpack_tree system-dirs.tar "$job/root"
  while read -r member service _; do attempt unpack_tree "$member" "$job/volume/$member"; done < "$job/volumes"
  attempt stage_directories
  step load
  attempt load_images
  : > "$job/prepared"
  event finished
}
main "$@"
