# The processes that have a GPU open: a line "PID COMMAND NODE ADDRESS" for each, ADDRESS in PCI's words, "nvidia" for
# all of NVIDIA's and "amd" for all of AMD's (their control devices). Guests (vfio) are libvirt's to tell.
# Parameters by environment: sysfs, proc. Other users' processes are seen by root only.
sysfs=${sysfs:-/sys} proc=${proc:-/proc}

address_of() {
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
  /dev/nvidia*) echo nvidia ;;
  /dev/kfd) echo amd ;;
  esac
}

# One process for all links: a desktop has tens of thousands.
find "$proc"/[0-9]*/fd -maxdepth 1 \( -lname '/dev/dri/*' -o -lname '/dev/nvidia*' -o -lname /dev/kfd \) \
  -printf '%p %l\n' 2>/dev/null | while read -r fd node; do
  pid=${fd%/fd/*} pid=${pid##*/}
  name=
  read -r name <"$proc/$pid/comm" 2>/dev/null || name=unknown
  address=$(address_of "$node")
  if [ -n "$address" ]; then
    printf '%s %s %s %s\n' "$pid" "$(printf '%s' "${name:-unknown}" | tr ' ' _)" "$node" "$address"
  fi
done | sort -u
