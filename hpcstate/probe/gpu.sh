# The GPUs of this host and what Slurm could find them with. Each line:
#   bus ADDRESS                         an NVIDIA GPU on PCI
#   plugin NAME, library                Slurm's gpu plugins, NVML's library
#   driver TEXT                         NVIDIA's driver, with for each of its GPUs
#   gpu ADDRESS|DEVICE ID|MINOR|CPUS|MODEL|EXCLUDED
#   cpu NUMBER PACKAGE CORE             where the driver is loaded
#   cap PATH MINOR, index LINE, lgi LINE    MIG: capabilities, and nvidia-smi's words for GPUs and instances
#   marker LINE                         the file that says which GPUs are simulated
#   node MAJOR MINOR PATH               device nodes, numbers in hex
# nvidia-smi is not asked: it can hang on a GPU that fell off the bus, and takes a second. Only names of MIG profiles
# come from it, because the kernel does not have them: where there are instances.
# Behind nvidia_smi_bounded.sh; parameters by environment: root (before each path), marker, limit (seconds).
root=${root-} marker=${marker:-/etc/hpcstate/simulated-gpus.json} limit=${limit:-20}

# 0x03 are display controllers: 0x0300 VGA, 0x0302 3D, 0x0380 others (pci.ids).
for device in "$root"/sys/bus/pci/devices/*; do
  if read -r vendor 2>/dev/null <"$device/vendor" && [ "$vendor" = 0x10de ] && read -r class <"$device/class"; then
    case $class in 0x03*) echo "bus ${device##*/}" ;; esac
  fi
done

for file in "$root"/usr/lib/*/slurm*/gpu_*.so; do
  if [ -e "$file" ]; then echo "plugin ${file##*/}"; fi
done
for file in "$root"/usr/lib/*/libnvidia-ml.so.1; do
  if [ -e "$file" ]; then echo library; fi
done

driver=$root/proc/driver/nvidia
if [ -r "$driver/version" ]; then
  IFS= read -r line <"$driver/version"
  printf 'driver %s\n' "$line"
  for file in "$driver"/gpus/*/information; do
    [ -r "$file" ] || continue
    minor='' model='' id='' cpus='' excluded=''
    while IFS= read -r line; do
      case $line in
      "Device Minor:"*) minor=${line#*:} ;;
      "Model:"*) model=${line#*:} ;;
      "GPU Excluded:"*) excluded=${line#*:} ;;
      esac
    done <"$file"
    address=${file%/information} address=${address##*/}
    device=$root/sys/bus/pci/devices/$address
    read -r id 2>/dev/null <"$device/device"
    read -r cpus 2>/dev/null <"$device/local_cpulist"
    printf 'gpu %s|%s|%s|%s|%s|%s\n' "$address" "$id" "$minor" "$cpus" "$model" "$excluded"
  done
  for topology in "$root"/sys/devices/system/cpu/cpu[0-9]*/topology; do
    [ -r "$topology/core_id" ] || continue
    read -r package <"$topology/physical_package_id"
    read -r core <"$topology/core_id"
    cpu=${topology%/topology}
    echo "cpu ${cpu##*/cpu} $package $core"
  done
  mig=
  for file in "$driver"/capabilities/gpu*/mig/gi*/access "$driver"/capabilities/gpu*/mig/gi*/ci*/access; do
    [ -r "$file" ] || continue
    mig=yes
    while IFS= read -r line; do
      case $line in DeviceFileMinor:*) echo "cap ${file#*/capabilities/} ${line#*:}" ;; esac
    done <"$file"
  done
  if [ -n "$mig" ]; then
    bounded "$limit" 1 --query-gpu=index,pci.bus_id --format=csv,noheader |
      while IFS= read -r line; do printf 'index %s\n' "$line"; done
    bounded "$limit" 1 mig -lgi | while IFS= read -r line; do printf 'lgi %s\n' "$line"; done
  fi
fi

if [ -r "$root$marker" ]; then
  while IFS= read -r line || [ -n "$line" ]; do printf 'marker %s\n' "$line"; done <"$root$marker"
fi

set --
for file in "$root"/dev/nvidia[0-9]*; do
  if [ -c "$file" ]; then set -- "$@" "$file"; fi
done
[ $# -eq 0 ] || stat -L -c 'node %t %T %n' -- "$@"
