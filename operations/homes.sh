# Homes of a node, run there as root:
#
# cat hpcstate/replace_file.sh operations/idle.sh operations/nfs.sh operations/homes.sh | NAME=VALUE... sh -s ACTION WORD...
#   way USER PLACE      the home of the account USER is PLACE; it moves there once, with the keys that open it
#   serve               the homes are served by NFS, to whom their exports name, and to nobody else
#   exports, restart    a server that runs follows its exports, or its settings
#   mount SOURCE        SOURCE is mounted at $home as somebody looks there
#   folder SOURCE FILE...   the same on the controller, for the folder SOURCE of the hypervisor; what is at $home moves there
#                       once, when the folder is empty; the homes are no longer served, FILEs are those of the server
#   unshare FILE...     neither; the homes of this node's own disk are at $home again; FILEs are those of the server
# By environment: home (/home), idle (empty: processes that use $home are not waited for), kind (of file system: nfs4 or
# virtiofs), for folder: mount, automount (texts of its units), work (where it is looked at), units (systemd's folder).
set -eu
home=${home:?} idle=${idle-} kind=${kind:-nfs4} work=${work:-/run/hpcstate/homes} units=${units:-/etc/systemd/system}

fail() {
  echo "$*" >&2
  exit 1
}

# mounted: what is mounted at $home, "TYPE SOURCE" a line. Not by findmnt or mountpoint, which look at $home and would wait
# for a server that is away.
mounted() {
  awk -v home="$home" '$5 == home { for (at = 7; at <= NF && $at != "-"; at++); print $(at + 1), $(at + 2) }' /proc/self/mountinfo
}

is_home() { [ "$(getent passwd "$1" | cut -d : -f 6)" = "$2" ]; }

way() {
  user=$1 place=$2
  old=$(getent passwd "$user" | cut -d : -f 6)
  moves=
  if [ ! -d "$place" ]; then
    [ -s "$old/.ssh/authorized_keys" ] || fail "$old has no key that opens $user: it stays the home of $user"
    mkdir -p "${place%/*}"
    rm -rf "$place.new"
    cp -a "$old" "$place.new"
    sync -f "$place.new"
    mv -T "$place.new" "$place"
    moves=yes
  fi
  [ -s "$place/.ssh/authorized_keys" ] || fail "$place has no key that opens $user: $old stays the home of $user"
  # usermod refuses while the account has processes, as this one: with this option it moves nothing, and they do not mind.
  unshare --pid --fork --mount-proc usermod --home "$place" "$user"
  is_home "$user" "$place" || fail "the home of $user is not $place"
  if [ "$moves" ] && [ "$old" = "$home/$user" ]; then rm -rf "$old"; fi
}

serve() {
  without_portmapper
  have rpc.nfsd nfs-kernel-server "write storage.home: local"
  systemctl daemon-reload
  systemctl enable --quiet nfs-server.service
  case " $(cat /proc/fs/nfsd/versions 2>/dev/null) " in
  *' -3 '*' +4.2 '*) systemctl start nfs-server.service ;;
  *) systemctl restart nfs-server.service ;;
  esac
  exportfs -ra
}

# settle: nothing of ours is at $home any more.
settle() {
  if [ "$idle" ]; then demand_idle "$home" "$1"; fi
  systemctl stop home.automount home.mount 2>/dev/null || :
  left=$(mounted)
  [ -z "$left" ] || fail "$home is still mounted ($left): something uses it; it is tried again with the next deploy"
}

mount_homes() {
  source=$1
  if [ "$kind" = nfs4 ]; then have mount.nfs4 nfs-common "write storage.home: local"; fi
  if ! systemctl --quiet is-active home.automount || mounted | grep -v '^autofs ' | grep -qvxF "$kind $source"; then
    settle "It gets the homes of the cluster."
  fi
  systemctl enable --quiet home.automount
  systemctl start home.automount
  if ! timeout -k 5 90 stat -t "$home/." >/dev/null || ! mounted | grep -qxF "$kind $source"; then
    if [ "$kind" = nfs4 ]; then
      more="The controller says more: systemctl status nfs-server, exportfs -s"
    else
      more="virtiofsd of the hypervisor says more: /var/log/libvirt/qemu/*-virtiofsd.log"
    fi
    fail "$source cannot be mounted: $(journalctl --unit home.mount --lines 1 --output cat --no-pager). $more"
  fi
}

# fill: what is at $home becomes the content of the folder mounted at $work, whole or not at all; one that has a content stays
# as it is. A copy that is not whole lies in .hpcstate-moving, and counts when .whole is in there.
fill() {
  new=$work/.hpcstate-moving
  if [ ! -e "$new/.whole" ]; then
    there=$(find "$work" -mindepth 1 -maxdepth 1 ! -name .hpcstate-moving ! -name lost+found | head -n 1)
    if [ -n "$there" ]; then
      rm -rf "$new"
      return 0
    fi
    need=$(du -s -B 1 "$home" | cut -f 1)
    room=$(df --output=avail -B 1 "$work" | tail -n 1 | tr -d ' ')
    if [ "$need" -ge "${room:=0}" ]; then
      fail "$home has $((need >> 20)) MiB, and the folder of the hypervisor $((room >> 20)) free: it stays where it is"
    fi
    rm -rf "$new"
    mkdir -m 700 "$new"
    cp -a "$home/." "$new/"
    sync -f "$new"
    : >"$new/.whole"
    sync -f "$new"
  fi
  find "$new" -mindepth 1 -maxdepth 1 ! -name .whole | while read -r one; do mv -T "$one" "$work/${one##*/}" || exit 1; done
  chmod --reference="$home" "$work"
  rm -f "$new/.whole"
  rmdir "$new"
  sync -f "$work"
}

folder() {
  source=$1
  shift
  if ! grep -qxF 'Type=virtiofs' "$units/home.mount" 2>/dev/null; then
    if [ "$idle" ]; then demand_idle "$home" "The homes move to a folder of the hypervisor."; fi
    if [ $# -gt 0 ]; then
      systemctl disable --quiet --now nfs-server.service
      rm -f "$@"
    fi
    mkdir -p "$work"
    mount -t virtiofs -o nosuid,nodev "$source" "$work" || fail "the folder $source cannot be mounted at $work"
    trap 'umount "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    fill
    umount "$work"
    trap - EXIT HUP INT TERM
    settle "They move to a folder of the hypervisor."
    systemctl disable --quiet home.automount home.mount 2>/dev/null || :
    # The automount first: the mount unit says that the move is done.
    printf '%s\n' "${automount:?}" | replace_file "$units/home.automount" 644
    printf '%s\n' "${mount:?}" | replace_file "$units/home.mount" 644
    systemctl daemon-reload
  elif [ $# -gt 0 ]; then
    systemctl disable --quiet --now nfs-server.service
    rm -f "$@"
  fi
  mount_homes "$source"
}

unshare_homes() {
  if [ $# -gt 0 ]; then systemctl disable --quiet --now nfs-server.service; fi
  settle "It gets the homes of this node's own disk."
  systemctl disable --quiet home.automount home.mount 2>/dev/null || :
  rm -f "$@" /etc/systemd/system/home.automount /etc/systemd/system/home.mount
  systemctl daemon-reload
}

action=$1
shift
case $action in
way) way "$@" ;;
serve) serve ;;
exports) if systemctl --quiet is-active nfs-server; then exportfs -ra; fi ;;
restart) if systemctl --quiet is-active nfs-server; then systemctl restart nfs-server; fi ;;
mount) mount_homes "$@" ;;
folder) folder "$@" ;;
unshare) unshare_homes "$@" ;;
*) fail "$action is none of the actions" ;;
esac
