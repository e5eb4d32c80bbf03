# Apptainer here, and what an ordinary user can do with it: a line for each thing that is there.
#   version V | apptainer version V     dpkg's where it is a package: starting it costs a second on an emulated node
#   setting NAME = VALUE                a directive of apptainer.conf in force; "unreadable PATH" where it cannot be read
#   sysctl NAME VALUE, program NAME, setuid PATH, fuse MODE (octal), subuid LINE, subgid LINE
# Parameters by environment: root (before each path), sysctls (below /proc/sys), programs (names).
root=${root-}

version=$(dpkg-query --showformat='${db:Status-Status} ${Version}' --show apptainer 2>/dev/null)
case $version in
"installed "*) echo "version ${version#installed }" ;;
*) if command -v apptainer >/dev/null; then timeout 20 apptainer --version; fi ;;
esac

conf=$root/etc/apptainer/apptainer.conf
if [ -r "$conf" ]; then
  sed -n 's/^[[:space:]]*\([^#[:space:]]\)/setting \1/p' "$conf"
elif [ -e "$conf" ]; then
  echo "unreadable $conf"
fi

for name in ${sysctls?}; do
  # cat, not read: a shell reads byte by byte, and a second read of such a file is its end (proc(5)).
  if [ -r "$root/proc/sys/$name" ]; then echo "sysctl $name $(cat "$root/proc/sys/$name")"; fi
done

stat -L -c 'fuse %a' "$root/dev/fuse" 2>/dev/null

for name in ${programs?}; do
  if command -v "$name" >/dev/null; then echo "program $name"; fi
done

for file in "$root"/usr/lib/*/apptainer/bin/starter-suid "$root"/usr/lib*/apptainer/bin/starter-suid \
  "$root/usr/libexec/apptainer/bin/starter-suid"; do
  if [ -u "$file" ]; then echo "setuid $file"; fi
done

for name in subuid subgid; do
  if [ -r "$root/etc/$name" ]; then sed "s/^/$name /" "$root/etc/$name"; fi
done
:
