# Hands a PCI device to a driver: sh vfio_bind.sh ADDRESS DRIVER; an empty DRIVER is the one that the kernel has for it.
# Linux: Documentation/ABI/testing/sysfs-bus-pci (driver_override, unbind, drivers_probe). A driver that does not let go
# (a process has the device open, the card hangs) is waited for with a limit. By environment: bus, limit (seconds).
set -u
bus=${bus:-/sys/bus/pci} limit=${limit:-60}
address=$1 driver=$2
device=$bus/devices/$address

# Write $1 to the file $2. The writer may sit in the kernel, where no signal reaches it: it is left behind, and must
# not hold the pipes of who called.
write() {
  (echo "$1" >"$2") </dev/null >/dev/null 2>&1 &
  writer=$! tenths=0
  while kill -0 $writer 2>/dev/null; do
    if [ $tenths -ge $((limit * 10)) ]; then
      echo "$address: no answer from $2 within $limit s (a process has the device, or the card hangs); see dmesg" >&2
      exit 1
    fi
    sleep 0.1
    tenths=$((tenths + 1))
  done
  wait $writer || {
    echo "$address: $2 was refused; see dmesg" >&2
    exit 1
  }
}

write "$driver" "$device/driver_override"
if [ -e "$device/driver" ]; then write "$address" "$device/driver/unbind"; fi
write "$address" "$bus/drivers_probe"
if [ -n "$driver" ] && [ "$(basename "$(readlink "$device/driver")")" != "$driver" ]; then
  echo "$address did not get the driver $driver; see dmesg" >&2
  exit 1
fi
