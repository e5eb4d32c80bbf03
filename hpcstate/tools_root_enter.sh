#!/bin/sh
# Run a command in another root: enter.sh ROOT [SOURCE=TARGET]... -- COMMAND...
# In namespaces of its own (hpcstate/tools_root.py makes them): what is mounted here ends with the command.
# pivot_root and not chroot: the kernel refuses a chroot'ed process the user namespace that Apptainer runs in
# (user_namespaces(7), EPERM).
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    source=${1%%=*} target=$root${1#*=}
    if [ -d "$source" ]; then
        mkdir -p "$target"
    else
        mkdir -p "${target%/*}"
        [ -e "$target" ] || : >"$target"
    fi
    mount --rbind "$source" "$target"
    shift
done
shift
cd "$root"
mkdir -p .outside
pivot_root . .outside
umount --lazy /.outside
cd /
exec "$@"
