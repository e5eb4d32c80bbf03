# A mount of storage.mounts, run on a node as root:
#
# cat hpcstate/replace_file.sh operations/idle.sh operations/nfs.sh operations/mounts.sh | NAME=VALUE... sh -s ACTION
#   set        its units are those of $mount and $automount; it is mounted as somebody looks there
#   enable     the same, where its units are right and what is mounted stays
#   remove     it is not mounted, and its units are gone
# What is in use stays as it is: then a line "left TEXT" says who uses it. So does one of a server that does not answer.
# By environment: place, name (of its mount unit), seconds (how long it is waited for); for set: mount, automount (texts),
# nfs (not empty: it needs the programs of NFS); units (systemd's folder), mountinfo.
set -eu
place=${place:?} name=${name:?} seconds=${seconds:?} units=${units:-/etc/systemd/system}
auto=${name%.mount}.automount

fail() {
  echo "$*" >&2
  exit 1
}

# left TEXT: this is not done now, and is no failure of the deploy.
left() {
  echo "left $*"
  exit 0
}

# mounted: what is mounted at $place, "TYPE SOURCE" a line. Not by findmnt or mountpoint, which look at $place.
mounted() {
  place=$place awk '$5 == ENVIRON["place"] {
    for (at = 7; at <= NF && $at != "-"; at++); print $(at + 1), $(at + 2)
  }' "${mountinfo:-/proc/self/mountinfo}"
}

ours() { grep -qxF "Where=$place" "$units/$name" 2>/dev/null; }

# settle: nothing of ours is at $place any more. The mount goes first: where it is busy its automount stays below it.
settle() {
  if mounted | grep -qv '^autofs '; then
    ours || left "$place: $(mounted | tail -n 1) is mounted there, which hpcstate did not do. \`umount $place\`, then deploy again"
    said=$( (demand_idle "$place" "Its mount is to change.") 2>&1) || left "$said"
    timeout -k 5 "$((seconds + 30))" systemctl stop "$name" >/dev/null 2>&1 || :
    if mounted | grep -qv '^autofs '; then
      left "$place is still mounted from $(mounted | tail -n 1), and to change: something uses it. Deploy again when it has ended"
    fi
  fi
  timeout -k 5 60 systemctl stop "$auto" >/dev/null 2>&1 || :
  still=$(mounted)
  if [ -n "$still" ]; then left "$place is still mounted ($still), and to change: something uses it. Deploy again later"; fi
}

look() {
  if timeout -k 5 "$((seconds + 10))" stat -t "$place/." >/dev/null 2>&1 && mounted | grep -qv '^autofs '; then return 0; fi
  why=$(timeout 10 journalctl --unit "$name" --lines 1 --output cat --no-pager 2>/dev/null) || :
  left "$place does not answer: ${why:-it was not mounted in $seconds s}. It is tried again as somebody looks there"
}

turn_on() {
  systemctl daemon-reload
  systemctl enable --quiet "$auto"
  systemctl start "$auto"
}

set_mount() {
  if [ "${nfs-}" ]; then have mount.nfs4 nfs-common "take the mount out of storage.mounts"; fi
  settle
  # Text from a command's substitution has lost its last newline.
  printf '%s\n' "${mount:?}" | replace_file "$units/$name" 644
  printf '%s\n' "${automount:?}" | replace_file "$units/$auto" 644
  turn_on
  look
}

remove() {
  settle
  systemctl disable --quiet "$auto" 2>/dev/null || :
  if ours; then rm -f "$units/$name" "$units/$auto"; fi
  systemctl daemon-reload
  # An empty folder in its place would take what somebody thinks is written to the server.
  case $place in
  /mnt | /media) ;;
  *) rmdir "$place" 2>/dev/null || : ;;
  esac
}

action=$1
case $action in
set) set_mount ;;
enable) turn_on ;;
remove) remove ;;
*) fail "$action is none of the actions" ;;
esac
