# Decompresses an archive into nothing: what lrzip's own checksum says of it.
# usage: prove.sh FILE
lrzip -q -t "$1" >/dev/null 2>&1 </dev/null &
mark_reader "$1" $!
wait $! || die "lrzip refuses the archive that it has just written"
