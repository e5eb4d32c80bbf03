# A disk that is meant for data, and what is mounted where: "device BYTES PATH" with what blkid(8) finds on it, a line
# each, "unknown" where that is nothing though the disk is not empty, "filesystem BYTES" of an ext4; "mount SOURCE PATH"
# for each PATH that has one; the mount units of the host with their digests ("unit SHA256 NAME"), those that start at
# boot ("enabled NAME"). For root. Nothing of the disk where there is none.
# device=DISK units=FOLDER sh data_volume.sh PATH...
device=${device:?} units=${units:-/etc/systemd/system}

if [ -e "$device" ]; then
  echo "device $(blockdev --getsize64 "$device") $(readlink -f "$device")"
  if blkid -p -o export "$device"; then
    dumpe2fs -h "$device" 2>/dev/null | while IFS=: read -r name value; do
      case $name in
      'Block count') count=$value ;;
      'Block size') echo "filesystem $((count * value))" ;;
      esac
    done
  elif [ "$(head -c 1048576 "$device" | tr -d '\000' | wc -c)" -ne 0 ]; then
    echo unknown
  fi
fi
for path; do
  if source=$(findmnt --noheadings --output SOURCE --mountpoint "$path" | tail -n 1) && [ -n "$source" ]; then
    echo "mount $source $path"
  fi
done
for file in "$units"/*.mount; do
  if [ -f "$file" ]; then echo "unit $(sha256sum <"$file" | cut -d ' ' -f 1) ${file##*/}"; fi
done
for file in "$units"/local-fs.target.wants/*.mount; do
  if [ -e "$file" ]; then echo "enabled ${file##*/}"; fi
done
:
