# What vfio is on this host, a line for each finding: "module NAME", "available" where vfio-pci is or could be loaded,
# "group NAME" for each node of a group, and "line TEXT" of our own configuration.
# Parameters by environment: sysfs, dev (where these are mounted), configuration (a file).
sysfs=${sysfs:-/sys} dev=${dev:-/dev} configuration=${configuration:-/etc/modprobe.d/hpcstate-vfio.conf}

for module in "$sysfs"/module/vfio*; do
  if [ -d "$module" ]; then printf 'module %s\n' "${module##*/}"; fi
done
if [ -d "$sysfs/bus/pci/drivers/vfio-pci" ] || modinfo -n vfio-pci >/dev/null 2>&1; then echo available; fi
for group in "$dev"/vfio/*; do
  if [ -c "$group" ]; then printf 'group %s\n' "${group##*/}"; fi
done
if [ -r "$configuration" ]; then
  while read -r line; do printf 'line %s\n' "$line"; done <"$configuration"
fi
