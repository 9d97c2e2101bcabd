# Are these scripts root?
# usage: root.sh
[ "$(id -u)" = 0 ] || die "sudo did not make this user root"
