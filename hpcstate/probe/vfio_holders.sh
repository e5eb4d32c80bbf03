# The processes that have a PCI device by vfio and are no guest of libvirt's, which tells of its own: somebody's QEMU,
# a program on DPDK. A line "PID COMMAND NODE ADDRESS" for each device of a group (/dev/vfio/14, noiommu-14), or for the
# one that is open by itself (iommufd, /dev/vfio/devices/vfio3).
# Parameters by environment: sysfs, proc, libvirt (where it keeps the process ids of its guests).
sysfs=${sysfs:-/sys} proc=${proc:-/proc} libvirt=${libvirt:-/run/libvirt/qemu}

devices_of_node() {
  case $1 in
  /dev/vfio/vfio) ;;
  /dev/vfio/devices/*)
    at=$(readlink -f "$sysfs/class/vfio-dev/${1##*/}/device") && echo "${at##*/}"
    ;;
  /dev/vfio/*)
    number=${1##*/}
    for device in "$sysfs/kernel/iommu_groups/${number#noiommu-}"/devices/*; do
      if [ -e "$device" ] || [ -h "$device" ]; then echo "${device##*/}"; fi
    done
    ;;
  esac
}

find "$proc"/[0-9]*/fd -maxdepth 1 -lname '/dev/vfio/*' -printf '%p %l\n' 2>/dev/null | while read -r fd node; do
  pid=${fd%/fd/*} pid=${pid##*/}
  if grep -qsx "$pid" "$libvirt"/*.pid; then continue; fi
  name=
  read -r name <"$proc/$pid/comm" 2>/dev/null || name=unknown
  for address in $(devices_of_node "$node"); do
    printf '%s %s %s %s\n' "$pid" "$(printf '%s' "${name:-unknown}" | tr ' ' _)" "$node" "$address"
  done
done | sort -u
