# The quotas of users on the file system of $device, mounted at $top; for root:
#   programs     the programs for them are there
#   feature yes  the file system, an ext4, has the feature quota; no: it has not
#   on           limits hold
#   row CSV      each line of `repquota -n -O csv` but the first
#   record UID   each line of the file `record`
#   boot SHA256  digest of the FILEs, one behind the other, where one of them is there; enabled: `unit` starts at boot
# sh quotas.sh FILE...; by environment: top, device, record, unit, root (before the paths of record and FILEs)
top=${top:?} device=${device:?} record=${record:?} unit=${unit:?} root=${root-}
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

# quotaon -p says "is on" where blocks are only counted, too (quota 4.06). So the kernel is asked: Q_XGETQSTAT for users,
# whose flags have the bit FS_QUOTA_UDQ_ENFD (quotactl(2), linux/dqblk_xfs.h).
holds() {
  python3 - "$device" <<'END'
import ctypes, sys

state = ctypes.create_string_buffer(256)
failed = ctypes.CDLL(None).quotactl(0x5805 << 8, sys.argv[1].encode(), 0, state)
sys.exit(1 if failed or not state.raw[2] & 2 else 0)
END
}

case " $(dumpe2fs -h "$device" 2>/dev/null | sed -n 's/^Filesystem features: *//p') " in
'  ') ;;
*' quota '*) echo 'feature yes' ;;
*) echo 'feature no' ;;
esac
if command -v setquota >/dev/null; then
  echo programs
  if holds 2>/dev/null; then echo on; fi
  repquota -u -n -O csv "$top" 2>/dev/null | sed '1d; /^$/d; s/^/row /'
fi
if [ -f "$root$record" ]; then sed 's/^/record /' "$root$record"; fi
there=
for file; do
  shift
  set -- "$@" "$root$file"
  if [ -f "$root$file" ]; then there=yes; fi
done
if [ "$there" ]; then
  echo "boot $(cat "$@" 2>/dev/null | sha256sum | cut -d ' ' -f 1)"
  if [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ]; then echo enabled; fi
fi
:
