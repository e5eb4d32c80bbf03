"""Which PCI devices the host itself lives on: disks of its file systems, card of its default route."""

from __future__ import annotations

import re
import shlex

from hpcstate.errors import HpcstateError

_ADDRESS = re.compile(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|$)")

# A device mapper or RAID device has the disks below it in slaves/, a bridge or bond its cards as lower_*.
# File systems on no block device (major number 0) are left out, but for those that name theirs (btrfs).
_SCRIPT = """\
disk() {
  for d in "$2"/slaves/*; do if [ -e "$d" ]; then disk "$1" "$d"; fi; done
  printf 'mount %s %s\\n' "$1" "$(readlink -f "$2")"
}
card() {
  for d in "$sysfs/class/net/$2"/lower_*; do if [ -e "$d" ]; then card "$1" "${d##*/lower_}"; fi; done
  if [ -e "$sysfs/class/net/$2/device" ]; then
    printf 'route %s %s\\n' "$1" "$(readlink -f "$sysfs/class/net/$2/device")"
  fi
}
mounts=$proc/self/mountinfo
[ -r "$mounts" ] || mounts=/dev/null
while read -r _ _ number _ at rest; do
  case $number in
  0:*) rest=${rest#* - }; rest=${rest#* }; source=${rest%% *}
    case $source in /dev/*) disk "$at" "$sysfs/class/block/${source##*/}" ;; esac ;;
  *) disk "$at" "$sysfs/dev/block/$number" ;;
  esac
done <"$mounts"
if [ -r "$proc/net/route" ]; then
  while read -r name destination rest; do
    if [ "$destination" = 00000000 ]; then card "$name" "$name"; fi
  done <"$proc/net/route"
fi"""


def command(sysfs: str = "/sys", proc: str = "/proc") -> str:
    """A line for each: what it is for, and where the kernel has the device. Reads sysfs and proc only."""
    return f"sysfs={shlex.quote(sysfs)} proc={shlex.quote(proc)}\n{_SCRIPT}"


def parse(text: str) -> dict[str, list[str]]:
    """What the host uses each PCI function for, by address: ``mounted at /``, ``default route by eth0``.

    A disk behind a bridge counts for the last device on its way only: bridges are shared anyway. Raises
    HpcstateError for a line that ``command`` does not print.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        what, _, path = rest.partition(" ")
        addresses = _ADDRESS.findall(path)
        if kind not in ("mount", "route") or not path.startswith("/"):
            raise HpcstateError(f"this is no use of a device: {line!r}", where="sysfs")
        if not addresses:
            continue
        use = f"mounted at {what}" if kind == "mount" else f"default route by {what}"
        uses = found.setdefault(addresses[-1], [])
        if use not in uses:
            uses.append(use)
    return {address: found[address] for address in sorted(found)}
