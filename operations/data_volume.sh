# The data volume of a controller, run there as root:
#
# cat hpcstate/replace_file.sh operations/idle.sh operations/data_volume.sh | NAME=VALUE... sh -s ACTION WORD... <UNIT FILE
#   volume UNIT                       a file system on a blank disk, mounted at $top by UNIT, as large as the disk
#   bind NAME PLACE UNIT [SERVICE [idle]]    the folder NAME of the volume is at PLACE by UNIT; what is at PLACE moves there
#                                     once, while SERVICE is stopped; with idle only when no process uses PLACE
#
# What counts, and nothing is undefined in between: while there is no UNIT for PLACE, what lies at PLACE on the node's own
# disk counts, and when a move has begun ($work/NAME.moving) what is on the volume is a part of it. A disk that has neither
# is a new one: the volume's folder counts. UNIT comes in one step, when the copy is whole and on the disk.
# By environment: device, label, top (where the volume is mounted), units (systemd's folder), work (ours, on the node's disk).
set -eu
device=${device:?} label=${label:?} top=${top:?}
units=${units:-/etc/systemd/system} work=${work:-/var/lib/hpcstate/data-volume}

fail() {
  echo "$*" >&2
  exit 1
}

# install_unit UNIT: the file $work/unit becomes UNIT, which systemd knows, and starts at boot and now.
install_unit() {
  replace_file "$units/$1" 644 <"$work/unit"
  sync "$units/$1" "$units"
  systemctl daemon-reload
  systemctl enable --quiet "$1"
  systemctl start "$1"
}

# Whether the disk has our file system: another content is never touched.
is_ours() { [ "$(blkid -p -s TYPE -o value "$device") $(blkid -p -s LABEL -o value "$device")" = "ext4 $label" ]; }

is_blank() {
  if blkid -p "$device" >/dev/null; then return 1; fi
  [ "$(head -c 1048576 "$device" | tr -d '\000' | wc -c)" -eq 0 ]
}

volume() {
  if ! is_ours; then
    # One that this very program was interrupted at is no content of anybody.
    if is_blank; then : >"$work/formatting"; fi
    if [ ! -e "$work/formatting" ]; then fail "$device has a content that hpcstate did not make: it stays as it is"; fi
    sync "$work/formatting" "$work"
    # Counts what users have, so that limits may come later; a kernel without the module could not mount it.
    quota=
    if modprobe -q quota_v2 2>/dev/null; then quota='-O quota'; fi
    # shellcheck disable=SC2086 # its words
    mkfs.ext4 -q -F -m 1 $quota -L "$label" "$device"
    sync "$device"
  fi
  rm -f "$work/formatting"
  install_unit "$1"
  mountpoint -q "$top" || fail "$top is not mounted"
  said=$(resize2fs "$device" 2>&1) || fail "the file system of $device does not follow the size of the disk: $said"
}

# move NAME PLACE: what is at PLACE becomes the folder NAME of the volume, whole or not at all.
move() {
  : >"$work/$1.moving"
  sync "$work/$1.moving" "$work"
  rm -rf "${top:?}/$1" "$top/$1.new"
  if [ -d "$2" ]; then
    need=$(du -s -B 1 "$2" | cut -f 1)
    room=$(df --output=avail -B 1 "$top" | tail -n 1 | tr -d ' ')
    if [ "$need" -ge "${room:=0}" ]; then
      fail "$2 has $((need >> 20)) MiB, and the data volume $((room >> 20)) free: it stays where it is; set controller.data_gb" \
        "higher, and the controller off and on (hpcstate stop FILE --node, start), then deploy again"
    fi
    cp -a "$2" "$top/$1.new"
  else
    mkdir -m 755 "$top/$1.new"
  fi
  sync -f "$top/$1.new"
  mv -T "$top/$1.new" "$top/$1"
  sync -f "$top"
}

# leave_folder NAME PLACE UNIT: PLACE is a folder of the hypervisor, by units of ours. What it has becomes the folder NAME of
# the volume, where there is none yet; then it is not mounted any more, and keeps what it has.
leave_folder() {
  demand_idle "$2" "It moves to the data volume."
  if [ -e "$work/$1.moving" ] || [ ! -e "$top/$1" ]; then
    # What the kernel has at PLACE now, and no automount above it.
    if ! timeout -k 5 90 stat -t "$2/." >/dev/null || ! is_folder "$2"; then fail "the folder at $2 does not answer: nothing moves"; fi
    move "$1" "$2"
    # Whole: what is at PLACE below the mount must not take its place.
    rm -f "$work/$1.moving"
    sync "$work"
  fi
  systemctl stop "$3" "${3%.mount}.automount"
  if mountpoint -q "$2"; then fail "$2 is still mounted: something uses it; it is tried again with the next deploy"; fi
  systemctl disable --quiet "${3%.mount}.automount" 2>/dev/null || :
  rm -f "$units/${3%.mount}.automount" "$units/$3"
  systemctl daemon-reload
}

# Whether what is mounted at PLACE is a folder of the hypervisor.
is_folder() {
  place=$1 awk '$5 == ENVIRON["place"] {
    for (at = 7; at <= NF && $at != "-"; at++); type = $(at + 1)
  } END { exit type != "virtiofs" }' "${mountinfo:-/proc/self/mountinfo}"
}

bind() {
  name=$1 place=$2 unit=$3 service=${4-} idle=${5-}
  mountpoint -q "$top" || fail "$top is not mounted: nothing moves"
  if [ -n "$idle" ] && grep -qxF 'Type=virtiofs' "$units/$unit" 2>/dev/null; then leave_folder "$name" "$place" "$unit"; fi
  if mountpoint -q "$place"; then
    install_unit "$unit"
    return
  fi
  if [ -e "$units/$unit" ] && [ -n "$(find "$place/job_state" -newer "$top/$name/job_state" 2>/dev/null)" ]; then
    fail "somebody unmounted $place while slurmctld ran: its state there is newer than that on the volume. Nothing was" \
      "changed. Stop slurmctld, copy to $top/$name what should count, touch $top/$name/job_state, and deploy again"
  fi
  if [ -n "$idle" ]; then demand_idle "$place" "It moves to the data volume."; fi
  if [ -n "$service" ] && systemctl --quiet is-active "$service"; then
    # Whatever becomes of it, the daemon goes on, with the state that counts then.
    trap 'systemctl start "$service"' EXIT
    trap 'exit 1' HUP INT TERM
    systemctl stop "$service"
  fi
  if [ ! -e "$units/$unit" ] && { [ -e "$work/$name.moving" ] || [ ! -e "$top/$name" ]; }; then move "$name" "$place"; fi
  mkdir -p "$place"
  install_unit "$unit"
  mountpoint -q "$place" || fail "$place is not mounted"
  rm -f "$work/$name.moving"
}

action=$1
shift
mkdir -p "$work"
cat >"$work/unit"
"$action" "$@"
