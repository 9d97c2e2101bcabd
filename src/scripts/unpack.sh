# shellcheck shell=bash
# Unpacking an archive that was pushed, for a restore and for a drill. It stands between job.sh and the job, which sets `job` and runs
# `begin_job`.

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

# load_tar FILE: Docker gives an image every name that its tar brings, also one that is in use here: none may come but those of this archive's id.
load_tar() {
  local name
  while read -r name; do
    case $name in *_"$stock_id") ;; *) echo "${1##*/} brings the name $name, which is not of this archive: it is not loaded"; return 1 ;; esac
    # Whatever comes goes again, also what nobody asked for.
    grep -qxF "$name" "$job/images" || echo "$name" >> "$job/images" || return 1
  done < <(names_in "$1")
  # It comes to lie there as a tar, and laid out beside it.
  fits_in_tmp $((2 * $(stat -c %s "$1"))) && timeout 7200 docker load < "$1"
}
# Most Dockers write one of these two files, anywhere in the tar. A name with an escape ends as none of ours does.
names_in() {
  tar -xOf "$1" repositories ./repositories 2>/dev/null | tr -d '\n' | grep -o '"[^"]*" *: *{' | cut -d'"' -f2
  tar -xOf "$1" manifest.json ./manifest.json 2>/dev/null | tr -d '\n' | grep -o '"RepoTags" *: *\[[^]]*\]' | sed 's/^[^[]*//' | grep -o '"[^"]*"' | tr -d '"' | sed 's/:[^:]*$//'
}

# Unpacks a tree without what had gone between its two passes. Both passes stand behind one another: what stands twice ends up
# as it stands last. Never with --recursive-unlink, which empties a directory whose second pass brings only what changed.
unpack_tree() {
  local member=$1 to=$2 path said code; local -a without=() odd=()
  mkdir -p "$to" || return 1
  if [ -f "$job/x/$member.deleted" ]; then
    while IFS= read -r -d '' path; do
      case "/$path/" in */../*) echo "the list of deletions names $path"; return 1 ;; esac
      # A name with a newline can't stand in a list of lines, and tar takes white space off the end of one: what bears such goes afterwards.
      case $path in *$'\n'*|*[[:space:]]) odd+=("$to/$path") ;; *) printf '%s\n' "$path" || return 1 ;; esac
    done < "$job/x/$member.deleted" > "$job/deleted" || return 1
    without=(--anchored --no-wildcards -X "$job/deleted")
  fi
  said=$(tar "${tar_extract_flags[@]}" ${without[@]+"${without[@]}"} -xf "$job/x/$member" -C "$to" 2>&1)
  code=$?
  for path in ${odd[@]+"${odd[@]}"}; do
    # Never through a link that has come in its place.
    case $(readlink -f -- "${path%/*}")/ in "$(readlink -f -- "$to")"/*) rm -rf --one-file-system -- "$path" || return 1 ;; esac
  done
  [ $code -ne 0 ] || return 0
  # A file whose other name was deleted between the passes: the second pass, which comes behind, brings it whole. Anything else
  # that tar says, or doesn't say, is a failure.
  [ $code -eq 2 ] && grep -q ': Cannot hard link to ' <<< "$said" &&
    ! grep -v -e ': Cannot hard link to ' -e ': Exiting with failure status' -e ': Ignoring unknown extended header keyword ' \
      -e ': time stamp .* in the future$' -e ': implausibly old time stamp ' <<< "$said" && return 0
  echo "tar ended with code $code: $said"
  return 1
}

staged_at() { echo "$(dirname "$1")/.tanker-new-${job##*/}-$(basename "$1")"; }
# Beside the directory in use, so that the cutover is a rename.
stage_directories() {
  local directory new
  while read -r directory; do
    if [ ! -d "$job/root$directory" ]; then
      # Not every release has keys there.
      [ "$directory" = /var/lib/fuel/keys ] && continue
      echo "the archive holds no $directory"; return 1
    fi
    new=$(staged_at "$directory")
    mkdir -p "$(dirname "$directory")" && echo "$new $directory" >> "$job/staged" && rm -rf --one-file-system "$new" &&
      mv -T "$job/root$directory" "$new" || return 1
  done < "$job/directories"
}
