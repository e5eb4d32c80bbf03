#!/bin/sh
# mmdebstrap --essential-hook: settings that dpkg and package scripts read while the packages are installed.
# $1 is the root. They stay in the image, so that upgrades keep to them. MANUAL=yes keeps the manual pages, in
# English.
set -eu
root=$1
here=$(dirname "$0")

# What a node does not read. Given to dpkg here and not to mmdebstrap, whose own filter costs half a second for
# each package of the first step; what that step brought is removed. udev's hook: see initramfs/hooks/disks.
cat >"$root/etc/dpkg/dpkg.cfg.d/hpcstate" <<EOF
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/initramfs-tools/hooks/udev
EOF
find "$root/usr/share/info" "$root/usr/share/locale" -mindepth 1 -delete
if [ "${MANUAL:-}" = yes ]; then
    echo 'path-include=/usr/share/man/man[1-8]/*' >>"$root/etc/dpkg/dpkg.cfg.d/hpcstate"
    find "$root/usr/share/man" -mindepth 1 -maxdepth 1 ! -name 'man[1-8]' -exec rm -r {} +
else
    find "$root/usr/share/man" -mindepth 1 -delete
fi
find "$root/usr/share/doc" -type f ! -name copyright -delete

# A small initramfs: the drivers of the virtual hardware we promise, not the whole kernel.
mkdir -p "$root/etc/initramfs-tools/conf.d"
cp -r --no-preserve=ownership "$here/initramfs/." "$root/etc/initramfs-tools/"
cat >"$root/etc/initramfs-tools/conf.d/hpcstate" <<EOF
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=3
RESUME=none
EOF
cat >"$root/etc/initramfs-tools/modules" <<EOF
virtio_pci
virtio_blk
ext4
EOF
# initramfs-tools asks fstab for the type of the root file system, and only then packs its fsck.
cat >"$root/etc/fstab" <<EOF
LABEL=hpcstate-root / ext4 defaults,errors=remount-ro 0 1
EOF
