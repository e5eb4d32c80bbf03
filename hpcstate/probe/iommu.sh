# The IOMMU: "cmdline TEXT", the kernel's command line, then a path in sysfs for each device that is in a group. Starts
# no process. Parameters by environment: sysfs (where it is mounted), cmdline (a file).
sysfs=${sysfs:-/sys} cmdline=${cmdline:-/proc/cmdline}

if [ -r "$cmdline" ]; then
  IFS= read -r line <"$cmdline"
  printf '%s\n' "cmdline $line"
fi
for device in "$sysfs"/kernel/iommu_groups/*/devices/*; do
  if [ -e "$device" ] || [ -L "$device" ]; then printf '%s\n' "$device"; fi
done
