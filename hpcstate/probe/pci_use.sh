# What the PCI devices of this host are used for by the host itself. A line for each use:
#   mount|swap|pool|btrfs|holder|zram|export|open WHAT PATH
#                                      a disk: where the kernel has the device, with its PCI functions in the path
#   route|network|port|pppoe WHAT PATH a network card: of a default route, of another route, below a bridge or bond,
#                                      of a PPP connection
#   untraced storage|network WHAT      a use whose device cannot be told: any of that kind may be it
# Parameters: sysfs, proc (where they are mounted), sbin (where zpool and ip may be besides: an ordinary user's
# PATH lacks it). Reads only; asks zpool and ip where they are. What other users' processes have open, and what the
# kernel exports, is shown to root only.
sysfs=${sysfs:-/sys} proc=${proc:-/proc}
PATH=$PATH:${sbin-/usr/sbin:/sbin}

# disk KIND WHAT NODE: NODE is the folder of a block device in sysfs. Device mapper, md and bcache have the
# devices below them in slaves/, of a partition those of its whole device.
disk() {
  node=$(readlink -f "$3")
  if [ ! -d "$node" ]; then
    printf 'untraced storage %s\n' "$2"
    return
  fi
  if [ -e "$node/partition" ]; then whole=${node%/*}; else whole=$node; fi
  below=no
  for d in "$node"/slaves/* "$whole"/slaves/*; do
    if [ -e "$d" ]; then
      disk "$1" "$2" "$d"
      below=yes # after the call, which has the same variables
    fi
  done
  if [ $below = yes ]; then return; fi
  case $whole in
  */nvme-subsystem/*)
    # With native multipath the device is the subsystem's; its controllers are beside it, each of them a way to it.
    ways=no
    for d in "${whole%/*}"/nvme*; do
      if [ -L "$d" ]; then
        wire "$1" "$2" "$(readlink -f "$d")"
        ways=yes
      fi
    done
    if [ $ways = no ]; then printf 'untraced storage %s\n' "$2"; fi
    ;;
  */virtual/block/loop*)
    # Over a file it is on that file's mount; over a disk (losetup /dev/sdb) nothing else tells of it.
    backing=
    if [ -r "$whole/loop/backing_file" ]; then read -r backing <"$whole/loop/backing_file"; fi
    case $backing in
    /dev/shm/*) ;;
    /dev/*) named "$1" "$2" "$backing" ;;
    esac
    ;;
  */virtual/block/zram* | */virtual/block/ram*) ;; # memory
  *) wire "$1" "$2" "$node" ;;
  esac
}

# The pools that zpool tells of; nothing where it is not there, or fails.
pool_names() {
  if command -v zpool >/dev/null; then zpool list -H -o name 2>/dev/null; fi
}

# wire KIND WHAT PATH: a device that has nothing below it, on PCI or across the network.
wire() {
  case $3 in
  */pci*) printf '%s %s %s\n' "$1" "$2" "$3" ;;
  */session[0-9]*)
    # iSCSI: the address of the other side is with the connection, which has the number of the session.
    session=${3#*/session}
    session=${session%%/*}
    peer=
    for c in "$sysfs/class/iscsi_connection/connection$session:"*; do
      if [ -r "$c/address" ]; then read -r peer <"$c/address"; fi
    done
    peer "$2" "$peer"
    ;;
  */nvme-fabrics/* | */virtual/block/nbd* | */virtual/block/rbd* | */virtual/block/drbd*)
    printf 'untraced network %s\n' "$2" ;;
  */virtual/block/zd*) if [ -z "$(pool_names)" ]; then printf 'untraced storage %s\n' "$2"; fi ;; # else: below
  */virtual/*) printf 'untraced storage %s\n' "$2" ;;
  esac # others (platform, mmc) are not on PCI
}

# peer WHAT ADDRESS: the card by which ADDRESS is reached.
peer() {
  device=
  if [ -n "$2" ] && command -v ip >/dev/null; then
    device=$(ip -o route get "$2" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')
  fi
  if [ -n "$device" ]; then card network "$1" "$device"; else printf 'untraced network %s\n' "$1"; fi
}

# card KIND WHAT NAME: a network device; a bridge, bond, team or VLAN has its cards as lower_*.
card() {
  for d in "$sysfs/class/net/$3"/lower_*; do
    if [ -e "$d" ]; then card "$1" "$2" "${d##*/lower_}"; fi
  done
  if [ -e "$sysfs/class/net/$3/device" ]; then
    printf '%s %s %s\n' "$1" "$2" "$(readlink -f "$sysfs/class/net/$3/device")"
  fi
}

named() { # named KIND WHAT /dev/…
  disk "$1" "$2" "$sysfs/class/block/$(basename "$(readlink -f "$3")")"
}

mounts=$proc/self/mountinfo
[ -r "$mounts" ] || mounts=/dev/null
while read -r _ _ number _ at rest; do
  rest=${rest#*- }
  type=${rest%% *} rest=${rest#* }
  source=${rest%% *} options=${rest#* }
  case $type in
  zfs) printf 'zfs %s %s\n' "$at" "$source" ;; # all pools, below
  nfs | nfs4 | cifs | smb3 | ceph)
    case $options in
    *addr=*) peer "$at" "$(printf '%s\n' "$options" | sed 's/.*[, ]addr=\([^, ]*\).*/\1/; s/^addr=\([^, ]*\).*/\1/')" ;;
    *) printf 'untraced network %s\n' "$at" ;;
    esac
    ;;
  *)
    case $number in
    0:*)
      # A file system on several disks (btrfs, bcachefs) has no number of a block device, but names one or all.
      case $source in
      /dev/*) for d in $(printf '%s\n' "$source" | tr : ' '); do named mount "$at" "$d"; done ;;
      esac
      ;;
    *) disk mount "$at" "$sysfs/dev/block/$number" ;;
    esac
    # XFS can have its log and its real-time data on disks of their own (xfs(5)).
    case $options in
    *logdev=* | *rtdev=*)
      # shellcheck disable=SC2020 # each of the two becomes a line end
      for d in $(printf '%s\n' "$options" | tr ', ' '\n\n' | sed -n 's/^\(logdev\|rtdev\)=//p'); do
        named mount "$at" "$d"
      done
      ;;
    esac
    ;;
  esac
done <"$mounts" | {
  # The pools of ZFS: of its disks nothing stands in mountinfo or sysfs.
  zfs=
  while read -r kind at source; do
    if [ "$kind" = zfs ]; then zfs="$zfs ${source%%/*}@$at"; else printf '%s %s %s\n' "$kind" "$at" "$source"; fi
  done
  pools=$(pool_names)
  for pool in $pools; do
    disks=$(zpool status -LP "$pool" 2>/dev/null | sed -n 's|^[[:space:]]*\(/dev/[^ ]*\).*|\1|p')
    if [ -z "$disks" ]; then printf 'untraced storage ZFS:%s\n' "$pool"; fi
    for d in $disks; do named pool "$pool" "$d"; done
  done
  # Imported pools have a folder there, also those that nothing is mounted from (OpenZFS: spa_stats.c).
  for d in "$proc"/spl/kstat/zfs/*; do
    if [ -e "$d/state" ] || [ -e "$d/txgs" ]; then
      case "$zfs " in
      *" ${d##*/}@"*) ;;
      *) zfs="$zfs ${d##*/}@ZFS:${d##*/}" ;;
      esac
    fi
  done
  for entry in $zfs; do
    case " $(printf '%s' "$pools" | tr '\n' ' ') " in
    *" ${entry%%@*} "*) ;;
    *) printf 'untraced storage %s\n' "${entry#*@}" ;;
    esac
  done
}

for d in "$sysfs"/fs/btrfs/*/devices/*; do
  if [ -e "$d" ]; then
    uuid=${d%/devices/*}
    disk btrfs "${uuid##*/}" "$d"
  fi
done

# Disks below a device mapper, md or bcache of which nothing is mounted: a guest's volume, a Ceph OSD.
for d in "$sysfs"/class/block/*/holders/*; do
  if [ -e "$d" ]; then
    node=${d%/holders/*}
    disk holder "${d##*/}" "$node"
  fi
done

# Disks that the kernel itself has open, with no word of it in holders/: zram writes back what lies idle
# (admin-guide/blockdev/zram.rst), LIO and nvmet serve disks to others (target/tcm_mod_builder.rst, drivers/nvme/target).
for d in "$sysfs"/class/block/zram*; do
  backing=none
  if [ -r "$d/backing_dev" ]; then read -r backing <"$d/backing_dev"; fi
  case $backing in /dev/*) named zram "${d##*/}" "$backing" ;; esac
done
for d in "$sysfs"/kernel/config/target/core/*/*/udev_path "$sysfs"/kernel/config/nvmet/subsystems/*/namespaces/*/device_path; do
  backing=
  if [ -r "$d" ]; then read -r backing <"$d"; fi
  case $backing in
  /dev/shm/*) ;;
  /dev/*) named export "$(basename "${d%/*}")" "$backing" ;;
  esac
done

# Disks that a program drives itself: a guest that was given a whole disk, a database, Ceph without LVM.
if command -v find >/dev/null; then
  find "$proc"/[0-9]*/fd -maxdepth 1 \( -lname '/dev/sd*' -o -lname '/dev/nvme*' -o -lname '/dev/vd*' \
    -o -lname '/dev/xvd*' -o -lname '/dev/md*' -o -lname '/dev/dm-*' -o -lname '/dev/sg*' -o -lname '/dev/ng*' \) \
    -printf '%l %p\n' 2>/dev/null | while read -r opened fd; do
    pid=${fd%/fd/*} pid=${pid##*/}
    program=
    if [ -r "$proc/$pid/comm" ]; then read -r program <"$proc/$pid/comm"; fi
    case $program in "(udev-worker)" | systemd-udevd) continue ;; esac # looks at each disk for a moment
    for kind in block scsi_generic nvme-generic; do
      if [ -e "$sysfs/class/$kind/${opened##*/}" ]; then
        disk open "$(printf '%s' "${program:-unknown}" | tr ' ' _)[$pid]" "$sysfs/class/$kind/${opened##*/}"
      fi
    done
  done | sort -u
fi

if [ -r "$proc/swaps" ]; then
  while read -r file type rest; do
    if [ "$type" = partition ]; then named swap "$file" "$file"; fi
  done <"$proc/swaps"
fi

# PPP over Ethernet: nothing in sysfs leads from ppp0 to the card, which may have no address of its own.
if [ -r "$proc/net/pppoe" ]; then
  while read -r session _ name; do
    if [ "$session" != Id ]; then card pppoe "$name" "$name"; fi
  done <"$proc/net/pppoe"
fi
if [ -r "$proc/net/route" ]; then
  while read -r name destination rest; do
    case $destination in
    Destination) ;;
    00000000) card route "$name" "$name" ;;
    *) card network "$name" "$name" ;;
    esac
  done <"$proc/net/route"
fi
if [ -r "$proc/net/ipv6_route" ]; then
  # destination prefix source prefix next metric references uses flags device
  while read -r destination prefix _ _ _ _ _ _ _ name; do
    case $name:$destination$prefix in
    lo:* | *:fe[89ab]* | *:ff*) ;; # link-local and multicast: every card that is up has these
    *:0000000000000000000000000000000000) card route "$name" "$name" ;;
    *) card network "$name" "$name" ;;
    esac
  done <"$proc/net/ipv6_route"
fi
if command -v ip >/dev/null; then # the other tables
  for family in -4 -6; do
    # shellcheck disable=SC2020 # each of the two becomes a line end
    # One over several cards has them all in its line (nexthop ... dev eth0 ... nexthop ... dev eth1).
    ip "$family" -o route show table all 2>/dev/null | sed -n '/^default /p' | tr '\t ' '\n\n' | sed -n '/^dev$/{n;p;}'
  done | sort -u | while read -r name; do card route "$name" "$name"; done
fi
for d in "$sysfs"/class/net/*/upper_*; do
  if [ -e "$d" ]; then
    name=${d%/upper_*}
    card port "${d##*/upper_}" "${name##*/}"
  fi
done
