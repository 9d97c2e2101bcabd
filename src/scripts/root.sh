# Are these scripts root?
# usage: root.sh
[ "$(id -u)" = 0 ] || die "the scripts run without root's rights, as $(id -un)"
