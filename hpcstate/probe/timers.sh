# The timers that hpcstate has on a host: "timer|NAME|SHA256|MODE|ENABLED|ACTIVE" for each one below `units` that has the
# line `mark`: digest of program, service and timer one behind the other, mode of the program, systemctl's words. For root.
# By environment: mark, units, programs (folders), root (before each path that is read).
mark=${mark:?} units=${units:?} programs=${programs:?} root=${root-}

for file in "$root$units"/hpcstate-*.timer; do
  if [ -f "$file" ] && grep -qxF "# $mark" "$file"; then
    name=${file##*/}
    name=${name%.timer}
    program=$root$programs/$name
    digest=$(cat "$program" "${file%.timer}.service" "$file" 2>/dev/null | sha256sum | cut -d ' ' -f 1)
    mode=$(stat -c %a "$program" 2>/dev/null)
    enabled=$(systemctl is-enabled "$name.timer" 2>/dev/null)
    active=$(systemctl is-active "$name.timer" 2>/dev/null)
    printf 'timer|%s|%s|%s|%s|%s\n' "$name" "$digest" "$mode" "$enabled" "$active"
  fi
done
:
