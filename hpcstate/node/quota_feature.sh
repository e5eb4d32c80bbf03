# Gives the file system of the data volume the feature quota, where it has none: as root, before it is mounted. It succeeds
# always: a volume without quotas is mounted all the same. By environment: device.
set -u
device=${device:?}

case " $(dumpe2fs -h "$device" 2>/dev/null | sed -n 's/^Filesystem features: *//p') " in
'  ' | *' quota '*) exit 0 ;;
esac
# A kernel without the module could not mount it any more.
modprobe -q quota_v2 || exit 0
# Replays the journal of a machine that was switched off; 4 and more: it needs somebody.
e2fsck -p "$device"
if [ $? -lt 4 ]; then tune2fs -O quota "$device"; fi
exit 0
