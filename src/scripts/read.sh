# Sends a file from an offset on.
# usage: read.sh FILE OFFSET
[ -f "$1" ] || die "$1 is not there"
mark_reader "$1" $$
exec tail -c "+$(($2 + 1))" -- "$1"
