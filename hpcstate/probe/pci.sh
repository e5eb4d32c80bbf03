# Everything about all PCI devices:
#   FILE:LINE                           of the files below; uevent has class, identifiers and bound driver
#   DEVICE/header_type:NUMBER, DEVICE/physfn:ADDRESS
#   name VENDOR  NAME, name VENDOR DEVICE  NAME     of pci.ids, only what is here
# Parameters by environment: sysfs (where it is mounted), pci_ids (the file of names).
sysfs=${sysfs:-/sys} pci_ids=${pci_ids:-/usr/share/misc/pci.ids}

devices=$sysfs/bus/pci/devices
grep -sH '' "$devices"/*/uevent "$devices"/*/numa_node "$devices"/*/boot_vga "$devices"/*/reset_method \
  "$devices"/*/sriov_totalvfs "$devices"/*/resource

# The byte 14 of the configuration space says what a function is (PCI Local Bus 3.0, 6.2.1); its highest bit tells a
# device of several functions. The first 64 bytes may be read by every user.
for device in "$devices"/*; do
  if [ -r "$device/config" ]; then
    type=$(od -An -tu1 -j14 -N1 "$device/config")
    printf '%s/header_type:%s\n' "$device" "${type##* }"
  fi
  if [ -e "$device/physfn" ]; then
    function=$(readlink "$device/physfn")
    printf '%s/physfn:%s\n' "$device" "${function##*/}"
  fi
done

# Of pci.ids just what the devices need: the file has 38,000 lines. Its format is told in its own head: vendors at the
# margin, their devices below with one tab, subsystems with two; classes begin with C.
if [ -r "$pci_ids" ]; then
  grep -sh ^PCI_ID= "$devices"/*/uevent | awk '
    FNR == NR { split(tolower($0), id, "[=:]"); vendors[id[2]]; devices[id[2] id[3]]; next }
    /^C / { exit }
    /^[0-9a-f]/ { vendor = substr($0, 1, 4); known = vendor in vendors; if (known) print "name " $0 }
    known && /^\t[0-9a-f]/ { key = vendor substr($0, 2, 4) }
    known && /^\t[0-9a-f]/ && key in devices { print "name " key substr($0, 6) }' - "$pci_ids"
fi
:
