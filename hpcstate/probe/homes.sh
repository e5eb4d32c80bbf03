# Where the homes of this host come from; for root. It looks at no file below HOME, where it could wait for a server:
#   way PATH                         the home of the account USER
#   mount TYPE SOURCE OPTIONS        each mount at HOME, the lowest first
#   kind TYPE                        what its mount unit in /etc mounts there
#   tag NAME                         each folder of the hypervisor that this machine has
#   unit NAME=VALUE                  what systemd says of each UNIT; nothing behind "unit" ends one
#   program NAME                     mount.nfs4, rpc.nfsd: those that are installed
#   versions LINE                    of NFS, as the server has them
#   export PATH CLIENT               what the server exports, and to whom
#   file PATH                        each of `files` that is there
# sh homes.sh USER HOME UNIT...; by environment: files (a list), root (before each path but those of the answer).
user=${1:?} home=${2:?} root=${root-}
shift 2

getent passwd "$user" | sed -n 's/^\([^:]*:\)\{5\}\([^:]*\):.*/way \2/p'
awk -v home="$home" '$5 == home {
  for (at = 7; at <= NF && $at != "-"; at++);
  print "mount", $(at + 1), $(at + 2), $6 "," $(at + 3)
}' "$root/proc/self/mountinfo"
sed -n 's/^Type=\([^[:space:]]*\)$/kind \1/p' "$root/etc/systemd/system/${home#/}.mount" 2>/dev/null
for tag in "$root"/sys/fs/virtiofs/*/tag; do
  if read -r line 2>/dev/null <"$tag"; then echo "tag $line"; fi
done
timeout 20 systemctl show --property=Id,LoadState,ActiveState,UnitFileState "$@" 2>/dev/null | sed 's/^/unit /'
for name in mount.nfs4 rpc.nfsd; do
  if [ -x "$root/usr/sbin/$name" ]; then echo "program $name"; fi
done
if read -r line 2>/dev/null <"$root/proc/fs/nfsd/versions"; then echo "versions $line"; fi
if [ -r "$root/var/lib/nfs/etab" ]; then sed -n 's/^\([^[:space:]]*\)[[:space:]]*\([^(]*\)(.*/export \1 \2/p' "$root/var/lib/nfs/etab"; fi
for file in ${files-}; do
  if [ -e "$root$file" ]; then echo "file $file"; fi
done
:
