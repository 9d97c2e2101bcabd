# Tries a restore out: unpacks the archive that was pushed, loads its images, starts PostgreSQL on its data in a container without a
# network, and reads every table. Uses nothing that the machine uses, and leaves nothing behind.
# usage: run.sh JOB STOCK_ID POSTGRES_DATA     (and the files containers, volumes, members)
# containers: a line each: SERVICE NAME IMAGE;  volumes: MEMBER SERVICE PATH;  members: SIZE NAME
# POSTGRES_DATA: the host directory of PostgreSQL's files, `-` where they are in its image

tools_are_here() {
  local tool
  for tool in lrzip tar docker timeout sha256sum; do
    command -v "$tool" >/dev/null || { echo "there is no $tool on this machine"; return 1; }
  done
  at_least 1.3 "$docker" || { echo "a drill needs Docker 1.3 or later, and here is '$docker'"; return 1; }
}

# The images keep the names that they have in the archive, with the backup's id: no others are touched.
load_images() {
  local service image file
  while read -r service _ image; do
    echo "${image}_$stock_id" >> "$job/images" || return 1
    file="$job/x/${image//\//__}_$stock_id.tar"
    [ ! -f "$file" ] || { load_tar "$file" && rm -f "$file" || return 1; }
    [ "$service" != postgres ] || postgres_image=${image}_$stock_id
  done < "$job/containers"
  file=$job/x/docker-images.tar
  [ ! -f "$file" ] || { load_tar "$file" && rm -f "$file" || return 1; }
  # A light backup names its containers; from 6.1 on, where the database lies beside its image, it holds none of their images.
  [ -z "$postgres_image" ] || docker inspect "$postgres_image" >/dev/null 2>&1 || postgres_image=''
}

# What runs in the container. PostgreSQL's own words go to its output.
# shellcheck disable=SC2016 # it is for the shell in the container
start_and_read='
for data in /var/lib/pgsql/data /var/lib/pgsql/9.3/data /var/lib/pgsql; do [ ! -f "$data/PG_VERSION" ] || break; done
[ -f "$data/PG_VERSION" ] || { echo "there is no PostgreSQL database in it"; exit 1; }
for bin in /usr/pgsql-*/bin /usr/lib/postgresql/*/bin /usr/bin; do [ ! -x "$bin/pg_ctl" ] || break; done
[ -x "$bin/pg_ctl" ] || { echo "there is no pg_ctl in the image"; exit 1; }
rm -f "$data/postmaster.pid"
mkdir -p /var/run/postgresql && chown postgres /var/run/postgresql || exit 1
as_postgres() { su postgres -s /bin/sh -c "$1"; }
as_postgres "$bin/pg_ctl -D $data -w -t 600 -o \"-c listen_addresses=\" start" || exit 1
tries=0
until as_postgres "$bin/psql -qtAc \"select 1\" postgres" >/dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 120 ] || { echo "PostgreSQL does not answer"; exit 1; }
  sleep 1
done
as_postgres "$bin/pg_dumpall" > /dev/null || { echo "not every table can be read"; exit 1; }
for table in clusters nodes tasks; do
  # A database without what nailgun keeps in it is no nailgun.
  rows=$(as_postgres "$bin/psql -qtAc \"select count(*) from $table\" nailgun") || { echo "the table $table of nailgun can not be read"; exit 1; }
  echo "tanker-drill $table $rows"
done
as_postgres "$bin/pg_ctl -D $data -m fast -w stop" >/dev/null
echo "tanker-drill done"
'

start_postgres() {
  local -a mounts=()
  [ "$data" = - ] || mounts=(-v "$job/root$data:/var/lib/pgsql")
  # What an earlier run of this drill left is in the way.
  timeout 120 docker rm -f -v "$throwaway" >/dev/null 2>&1
  echo "$throwaway" > "$job/throwaway" || return 1
  timeout 3600 docker run --name "$throwaway" --net none ${mounts[@]+"${mounts[@]}"} --entrypoint /bin/sh "$postgres_image" -c "$start_and_read" \
    > "$job/postgres.out" 2>&1 </dev/null || { tail -n 5 "$job/postgres.out"; return 1; }
  grep -q '^tanker-drill done' "$job/postgres.out" || { tail -n 5 "$job/postgres.out"; return 1; }
}

on_exit() {
  local code=$?
  trap '' TERM INT HUP
  [ $code -eq 0 ] || say_failure "stopped with code $code: $(last_words)"
  remove_images "$job" || note "loaded images could not be removed"
  ! docker inspect "$throwaway" >/dev/null 2>&1 || note "the container $throwaway could not be removed"
  rm -rf --one-file-system "$job/x" "$job/root" "$job/volume" "$job/archive.tar"
}

main() {
  job=$1; job_dir "$job"
  : > "$job/events"
  sign_job "$1"; begin_job
  stock_id=$2 data=$3 postgres_image='' throwaway=tanker-${job##*/}
  local member
  trap on_exit EXIT
  trap 'exit 143' TERM INT HUP
  step preflight
  attempt tools_are_here
  step unpack
  attempt unpack_archive
  attempt check_members
  step stage
  attempt unpack_tree system-dirs.tar "$job/root"
  while read -r member _; do attempt unpack_tree "$member" "$job/volume/$member"; done < "$job/volumes"
  step load
  attempt load_images
  if [ -n "$postgres_image" ]; then
    step start
    attempt start_postgres
    note "PostgreSQL ran on its data and every table was read: $(sed -n 's/^tanker-drill \([a-z]* [0-9a-z]*\)$/\1/p' "$job/postgres.out" | tr '\n' ',' | sed 's/,$//; s/,/, /g')"
  else
    note "the backup holds no image of postgres: it was unpacked, but no database was started"
  fi
  event finished
}
main "$@"
