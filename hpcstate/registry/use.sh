# Which files of the registry this node uses, for root: "process PID CGROUP PATH" for each open file and each path in a
# command line, "loop PATH" for each loop device. A process that ends while it is looked at is no error.
# sh use.sh ROOT PATTERN (of a path below ROOT, as grep -E takes it); by environment: proc, sys (where these are mounted).
proc=${proc:-/proc} sys=${sys:-/sys}
{
  find "$proc"/[0-9]*/fd -mindepth 1 -maxdepth 1 -lname "$1/*" -printf '%h %l\n' 2>/dev/null
  grep -aHoE "$2" "$proc"/[0-9]*/cmdline 2>/dev/null | sed 's|/cmdline:| |'
} | while read -r process file; do
  process=${process%/fd} group=''
  if [ -r "$process/cgroup" ]; then IFS= read -r group <"$process/cgroup"; fi
  printf 'process %s %s %s\n' "${process##*/}" "$group" "$file"
done
for backing in "$sys"/block/loop*/loop/backing_file; do
  [ -r "$backing" ] || continue
  IFS= read -r file <"$backing"
  case $file in "$1"/*) printf 'loop %s\n' "$file" ;; esac
done
:
