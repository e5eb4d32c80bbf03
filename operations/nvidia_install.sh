# Installs NVIDIA's driver, and the headers of the running kernel while the archive has them: sh nvidia_install.sh WORD...
# The newest kernel comes with its headers. With those of the running one the driver is built for it too, and no reboot is
# needed. What an interrupted dpkg left is finished first: apt refuses to work before that. Where the modules do not
# build, shows the compiler's errors.
# WORDs are for apt-get install; by environment: apt_get (as env takes it), updates and dkms (folders of dpkg and DKMS).
apt_get=${apt_get:-apt-get} updates=${updates:-/var/lib/dpkg/updates} dkms=${dkms:-/var/lib/dkms}
headers=linux-headers-$(uname -r)
if apt-cache show "$headers" >/dev/null 2>&1; then set -- "$@" "$headers"; fi
if [ -n "$(ls "$updates")" ]; then dpkg --configure -a; fi
# shellcheck disable=SC2086 # a program with its options
env $apt_get install --no-install-recommends --allow-change-held-packages "$@" || {
  grep -hs 'error:' "$dkms"/nvidia*/*/build/make.log | head -n 5 >&2
  exit 1
}
