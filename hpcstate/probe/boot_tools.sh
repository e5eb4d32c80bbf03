# What makes this host's initramfs and kernel command line: those of the programs that are there, a line each, and
# "systemd-boot" where one of the folders has entries to boot.
# sh boot_tools.sh FOLDER...; by environment: programs (names).
PATH=$PATH:/usr/sbin:/sbin
for name in ${programs?}; do
  if command -v "$name" >/dev/null 2>&1; then echo "$name"; fi
done
for folder; do
  for file in "$folder"/*.conf; do
    if [ -e "$file" ]; then
      echo systemd-boot
      break 2
    fi
  done
done
:
