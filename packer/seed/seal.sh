#!/bin/sh
# The last thing that runs in an image: identity, traces and the build user go, free blocks are given back.
set -eu
update-grub >/dev/null 2>&1
cloud-init clean --logs --seed --machine-id
rm -f /etc/ssh/ssh_host_* /root/.bash_history /etc/sudoers.d/90-cloud-init-users /etc/sudoers.d/90-hpcstate
rm -rf /var/lib/hpcstate/instance-id /var/log/journal/* /var/lib/systemd/random-seed /var/cache/apt/*.bin /var/lib/apt/lists/*
: >/etc/hostname
userdel --force --remove packer 2>/dev/null || :
rm -f /var/tmp/seal.sh
sync
fstrim / || :
systemctl poweroff --no-block
