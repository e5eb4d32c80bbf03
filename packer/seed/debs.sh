#!/bin/sh
# mmdebstrap --customize-hook: package files that no mirror of the release has. $1 is the root, the others are
# the files; what they depend on stands in the image's list of packages, or dpkg refuses them here.
set -eu
root=$1
shift
for file; do
    cp "$file" "$root/var/tmp/"
    chroot "$root" dpkg --install "/var/tmp/${file##*/}"
    rm "$root/var/tmp/${file##*/}"
done
