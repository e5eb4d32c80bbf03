# Loads NVIDIA's driver; where it does not load, shows what the kernel said of it.
if ! { modprobe nvidia && modprobe nvidia-uvm; }; then
  echo "NVIDIA's driver does not load. The kernel says:" >&2
  dmesg | grep -iE 'nvrm|nvidia' | tail -n 15 >&2
  exit 1
fi
