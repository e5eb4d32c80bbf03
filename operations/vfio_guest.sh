# Refuses, with the process's number and name, where a guest has the PCI device: sh vfio_guest.sh ADDRESS
# Unbinding it then would wait in the kernel for the guest's end (Linux: driver-api/vfio.rst). A guest has either the
# group (/dev/vfio/14, noiommu-14) or, by iommufd, the device itself (/dev/vfio/devices/vfio3; Linux 6.6).
# Run as root: others do not see whose files are open. By environment: sysfs, proc.
set -u
sysfs=${sysfs:-/sys} proc=${proc:-/proc}
address=$1
device=$sysfs/bus/pci/devices/$address

find / -maxdepth 0 -lname / -printf '' 2>/dev/null || {
  echo "$address: nobody can tell whether a guest has it: no find of GNU's here (findutils)" >&2
  exit 1
}
set --
if group=$(readlink "$device/iommu_group"); then
  set -- -lname "/dev/vfio/${group##*/}" -o -lname "/dev/vfio/noiommu-${group##*/}"
fi
for node in "$device"/vfio-dev/vfio*; do
  if [ -e "$node" ]; then set -- "$@" ${1:+-o} -lname "/dev/vfio/devices/${node##*/}"; fi
done
[ $# -gt 0 ] || exit 0

# Not as arguments of one program: a busy host has more open files than those can be, and then none would be seen.
held=$(find "$proc"/[0-9]*/fd -maxdepth 1 \( "$@" \) -printf '%h %l\n' 2>/dev/null | sort -u)
[ -n "$held" ] || exit 0
echo "$held" | while read -r fds node; do
  pid=${fds%/fd} pid=${pid##*/} name=
  read -r name <"$proc/$pid/comm" 2>/dev/null || name=unknown
  echo "a guest has $address: $name (process $pid) has $node open: stop it first" >&2
done
exit 1
