# The processes that have a GPU open: a line "PID COMMAND NODE ADDRESS" for each, ADDRESS in PCI's words. A control
# device counts for all GPUs that its driver has, and for no other: one that vfio-pci has is not open by that. Guests
# (vfio) are libvirt's to tell.
# Parameters by environment: sysfs, proc. Other users' processes are seen by root only.
sysfs=${sysfs:-/sys} proc=${proc:-/proc}

devices_of() {
  for gpu in "$sysfs/bus/pci/drivers/$1"/*:*:*.*; do
    if [ -e "$gpu" ]; then echo "${gpu##*/}"; fi
  done
}

addresses_of() {
  case $1 in
  /dev/dri/*)
    at=$(readlink -f "$sysfs/class/drm/${1##*/}/device" 2>/dev/null) || at=
    echo "${at##*/}"
    ;;
  /dev/nvidia[0-9]*)
    for gpu in "$proc"/driver/nvidia/gpus/*; do
      if grep -qs "^Device Minor:[[:space:]]*${1#/dev/nvidia}\$" "$gpu/information"; then echo "${gpu##*/}"; fi
    done
    ;;
  /dev/nvidia*) devices_of nvidia ;;
  /dev/kfd) devices_of amdgpu ;;
  esac
}

# One process for all links: a desktop has tens of thousands.
find "$proc"/[0-9]*/fd -maxdepth 1 \( -lname '/dev/dri/*' -o -lname '/dev/nvidia*' -o -lname /dev/kfd \) \
  -printf '%p %l\n' 2>/dev/null | while read -r fd node; do
  pid=${fd%/fd/*} pid=${pid##*/}
  name=
  read -r name <"$proc/$pid/comm" 2>/dev/null || name=unknown
  for address in $(addresses_of "$node"); do
    printf '%s %s %s %s\n' "$pid" "$(printf '%s' "${name:-unknown}" | tr ' ' _)" "$node" "$address"
  done
done | sort -u
