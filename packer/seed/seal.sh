#!/bin/sh
# The last thing that runs in an image: identity, traces and the build user go, free blocks are given back. What stays
# is which image it is (hpcstate/probe/node_runs.py).  sh seal.sh IMAGE
set -eu
mkdir -p /etc/hpcstate
printf '%s\n' "$1" >/etc/hpcstate/image
# What `cloud-init clean --logs --seed` removes: the program takes eleven seconds under software emulation.
rm -rf /var/lib/cloud/* /var/log/cloud-init.log /var/log/cloud-init-output.log
rm -f /etc/ssh/ssh_host_* /root/.bash_history /etc/sudoers.d/90-cloud-init-users /etc/sudoers.d/90-hpcstate
rm -rf /var/lib/hpcstate/instance-id /var/log/journal/* /var/lib/systemd/random-seed /var/cache/apt/*.bin /var/lib/apt/lists/*
: >/etc/hostname
# Empty, not "uninitialized" as cloud-init would write: systemd makes one at boot, but does not take that boot for
# the first of an unpacked tree, on which it would set every unit to its preset (machine-id(5)).
: >/etc/machine-id
userdel --force --remove packer 2>/dev/null || :
rm -f /var/tmp/seal.sh
sync
fstrim / || :
systemctl poweroff --no-block
