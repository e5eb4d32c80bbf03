# What a node has of mounts by units of ours; for root. It looks at no mounted file, where it could wait for a server:
#   file NAME SHA256 PLACE        each unit file below `units` that has the line `mark`, and its Where=
#   unit NAME=VALUE               what systemd says of each AUTOMOUNT; nothing behind "unit" ends one
#   mount PLACE TYPE SOURCE OPTIONS    each mount at a PLACE asked for or found, the lowest first
# sh mounts.sh PLACE... -- AUTOMOUNT...; by environment: mark, units (a folder), root (before each path that is read).
mark=${mark:?} units=${units:?} root=${root-}

places=' '
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  places="$places$1 "
  shift
done
[ $# -eq 0 ] || shift

for file in "$root$units"/*.mount "$root$units"/*.automount; do
  if [ -f "$file" ] && grep -qxF "# $mark" "$file"; then
    place=$(sed -n 's/^Where=//p' "$file" | head -n 1)
    printf 'file %s %s %s\n' "${file##*/}" "$(sha256sum <"$file" | cut -d ' ' -f 1)" "$place"
    places="$places$place "
  fi
done
if [ $# -gt 0 ]; then
  timeout 20 systemctl show --property=Id,LoadState,ActiveState,UnitFileState "$@" 2>/dev/null | sed 's/^/unit /'
fi
places=$places awk '
  index(ENVIRON["places"], " " $5 " ") {
    for (at = 7; at <= NF && $at != "-"; at++);
    print "mount", $5, $(at + 1), $(at + 2), $6 "," $(at + 3)
  }' "$root/proc/self/mountinfo"
:
