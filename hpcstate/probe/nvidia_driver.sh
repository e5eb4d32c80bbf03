# NVIDIA's driver on this host, a line for each finding:
#   kernel RELEASE                      the running one
#   loaded VERSION, nvrm TEXT           the loaded module, and its own line in /proc
#   headers RELEASE                     of a kernel; `build` is a link of the headers' package
#   module RELEASE<tab>VERSION<tab>LICENSE    a set of modules on disk
#   nouveau loaded|built|off            the other driver: loaded, there for the running kernel, turned off
#   library PATH, secureboot NUMBER, key enrolled
#   package NAME STATUS WANTED VERSION
#   NAME=VALUE                          what systemd says of the units
# Debian names its module files nvidia-current and nvidia-current-open, so `modinfo nvidia` finds none of them; NVIDIA's
# own installer and other packagers name them nvidia. Of each set modeset is looked at: to read the main module, 40 MB
# would be unpacked. The fifth byte of an EFI variable is the first of its value (Linux, filesystems/efivarfs.rst).
# sh nvidia_driver.sh PACKAGE...; by environment: root (before each path, and of dpkg's database), units (of systemd).
root=${root-}

kernel=$(uname -r)
printf 'kernel %s\n' "$kernel"
if read -r line 2>/dev/null <"$root/sys/module/nvidia/version"; then printf 'loaded %s\n' "$line"; fi
if read -r line 2>/dev/null <"$root/proc/driver/nvidia/version"; then printf 'nvrm %s\n' "$line"; fi

for folder in "$root"/lib/modules/*; do
  if [ -L "$folder/build" ]; then printf 'headers %s\n' "${folder##*/}"; fi
  grep -soE '^[^:]*/nvidia(-current(-open)?)?-modeset\.ko[.a-z0-9]*:' "$folder/modules.dep" |
    while IFS= read -r file; do
      file=$folder/${file%:}
      version=$(modinfo -F version "$file")
      license=$(modinfo -F license "$file")
      printf 'module %s\t%s\t%s\n' "${folder##*/}" "$version" "$license"
    done
done

if [ -d "$root/sys/module/nouveau" ]; then echo nouveau loaded; fi
if grep -sq '/nouveau\.ko' "$root/lib/modules/$kernel/modules.dep"; then echo nouveau built; fi
if grep -sqE '^[[:space:]]*blacklist[[:space:]]+nouveau' "$root"/etc/modprobe.d/*.conf \
  "$root"/usr/lib/modprobe.d/*.conf; then
  echo nouveau off
fi

for file in "$root"/usr/lib/*/libnvidia-ml.so.1; do
  if [ -e "$file" ]; then printf 'library %s\n' "$(readlink -f "$file")"; fi
done
for file in "$root"/sys/firmware/efi/efivars/SecureBoot-*; do
  if [ -r "$file" ]; then printf 'secureboot %s\n' "$(od -An -tu1 -j4 -N1 "$file")"; fi
done
key=$root/var/lib/dkms/mok.pub
if [ -e "$key" ] && mokutil --test-key "$key" 2>/dev/null | grep -q 'already enrolled'; then echo key enrolled; fi

dpkg-query --admindir="$root/var/lib/dpkg" \
  --showformat='package ${Package} ${db:Status-Status} ${db:Status-Want} ${Version}\n' --show "$@" 2>/dev/null
# shellcheck disable=SC2086 # several units, as words
timeout 10 systemctl show --property=Id,ActiveState,UnitFileState ${units?} 2>/dev/null || :
