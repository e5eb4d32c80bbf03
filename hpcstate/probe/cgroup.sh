# The controllers of control groups, a line for each source: "controllers NAME...", "subtree_control NAME..." of
# version 2; "legacy NAME" for each one of version 1 (cgroups(7)). Starts no process.
# Parameters by environment: root (where the cgroup file system is mounted), table (the kernel's, of version 1).
root=${root:-/sys/fs/cgroup} table=${table:-/proc/cgroups}

if [ -r "$root/cgroup.controllers" ]; then
  IFS= read -r line <"$root/cgroup.controllers"
  echo "controllers $line"
  line=
  IFS= read -r line <"$root/cgroup.subtree_control"
  echo "subtree_control $line"
elif [ -r "$table" ]; then
  while read -r name hierarchy _; do
    # The heading has no number there.
    if [ "$hierarchy" -gt 0 ] 2>/dev/null; then echo "legacy $name"; fi
  done <"$table"
fi
:
