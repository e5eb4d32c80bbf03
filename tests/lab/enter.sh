#!/bin/sh
# Run a command in the lab: network, mounts and processes of its own, so that virtual machines reach nothing
# outside and nothing outlives the command. Usage: enter.sh FOLDER COMMAND...; FOLDER holds libvirt's state.
# Needs root. The host's libvirt, if it has one, is neither seen nor touched.
set -eu
if [ "${HPCSTATE_LAB:-}" != inside ]; then
    HPCSTATE_LAB=inside exec unshare --net --mount --pid --ipc --fork --kill-child --mount-proc "$0" "$@"
fi
state=$(mkdir -p "$1" && cd "$1" && pwd)
shift
ip link set lo up
# What an interrupted run left would be taken up by the next one, with keys that nobody has any more.
rm -rf "${state:?}/lib" "${state:?}/etc"
mkdir -p "$state/lib" "$state/etc" "$state/cgroup" /run/libvirt /var/lib/libvirt
# /sys shows the network devices of the namespace it was mounted in; libvirt looks for its bridges there. The
# control groups come along, for a fresh /sys has none.
mount --rbind /sys/fs/cgroup "$state/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$state/cgroup" /sys/fs/cgroup
mount -t tmpfs tmpfs /run/libvirt
mount --bind "$state/lib" /var/lib/libvirt
mkdir -p /var/lib/libvirt/images /var/lib/libvirt/qemu /var/lib/libvirt/dnsmasq
cp -a /etc/libvirt/. "$state/etc/"
# What the host has defined is its own: domains, networks and pools.
rm -rf "$state/etc/qemu" "$state/etc/storage"
mount --bind "$state/etc" /etc/libvirt
# Not exec: this shell is the first process here and has to collect the dead daemons and machines. libvirt
# waits for a machine that it stopped until it is gone, and a zombie is not.
"$@"
