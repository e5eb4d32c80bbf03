# Removes what watched this node, or what of it the cluster file has no more: units, the exporter's user of MariaDB, folders,
# files. For root. The files go last: they tell that it is not done yet.
# drop='DROP USER ...' units='UNIT...' folders='FOLDER...' sh monitoring_off.sh FILE...
set -eu
drop=${drop?} units=${units?} folders=${folders?}

for unit in $units; do
  # One that is not installed has no file to be disabled.
  if systemctl --quiet cat "$unit" >/dev/null 2>&1; then systemctl disable --quiet --now "$unit"; fi
done
if [ -n "$drop" ] && systemctl --quiet is-active mariadb; then mariadb --execute "$drop"; fi
# shellcheck disable=SC2086 # words
rm -rf $folders
rm -f "$@"
for file; do
  case $file in
  *.service.d/*) rmdir "${file%/*}" 2>/dev/null || : ;;
  esac
done
systemctl daemon-reload
