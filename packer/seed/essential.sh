#!/bin/sh
# mmdebstrap --essential-hook: settings that package scripts read while the packages are installed.
# $1 is the root. Small initramfs: the drivers of the virtual hardware we promise, not the whole kernel.
set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d"
cat >"$root/etc/initramfs-tools/conf.d/hpcstate" <<EOF
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=3
EOF
cat >"$root/etc/initramfs-tools/modules" <<EOF
virtio_pci
virtio_blk
virtio_scsi
sd_mod
ext4
EOF
# initramfs-tools asks fstab for the type of the root file system, and only then packs its fsck.
cat >"$root/etc/fstab" <<EOF
LABEL=hpcstate-root / ext4 defaults,errors=remount-ro 0 1
EOF
