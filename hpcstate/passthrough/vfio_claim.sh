#!/bin/sh
# Written by hpcstate (deploys/vfio.py): gives devices to vfio-pci at boot, if they are still the ones that were meant.
# Usage: vfio-claim before|after ADDRESS=VENDOR:DEVICE...
# An address is no device: after a card was added, or the firmware updated, another one may be there, the root disk or
# the network card. "before" the module is loaded it claims, "after" it takes what another driver had first.
# Runs in the initramfs, too: nothing but a shell and sleep. Parameters by environment: bus, kmsg, limit (seconds).
bus=${bus:-/sys/bus/pci} kmsg=${kmsg:-/dev/kmsg} limit=${limit:-30}

log() { echo "<4>hpcstate-vfio: $*" >"$kmsg"; }

# Write $1 to the file $2; a driver that does not let go is not waited for without limit.
write() {
  (echo "$1" >"$2") </dev/null >/dev/null 2>&1 &
  writer=$! waited=0
  while kill -0 $writer 2>/dev/null; do
    if [ $waited -ge "$limit" ]; then return 1; fi
    sleep 1
    waited=$((waited + 1))
  done
}

when=$1
shift
for claim; do
  address=${claim%%=*} meant=${claim#*=}
  device=$bus/devices/$address
  if [ ! -e "$device" ]; then
    if [ "$when" = before ]; then log "no device at $address: nothing is claimed"; fi
    continue
  fi
  read -r vendor <"$device/vendor"
  read -r model <"$device/device"
  found=${vendor#0x}:${model#0x}
  if [ "$found" != "$meant" ]; then
    if [ "$when" = before ]; then log "$address is $found and not $meant: left alone"; fi
    continue
  fi
  # shellcheck disable=SC3013 # -ef: dash and busybox have it, and there is nothing else in the initramfs
  if [ "$when" = before ]; then
    echo vfio-pci >"$device/driver_override"
  elif [ ! "$device/driver" -ef "$bus/drivers/vfio-pci" ]; then
    if [ -e "$device/driver" ] && ! write "$address" "$device/driver/unbind"; then
      log "the driver of $address did not let go within $limit s: left alone"
      continue
    fi
    write "$address" "$bus/drivers_probe" || log "$address: no answer from drivers_probe within $limit s"
  fi
done
