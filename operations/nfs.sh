# NFS of a node: its packages, without the portmapper.
# NFSv4 needs no portmapper and no statd, which listen to everybody.
without_portmapper() {
  set -- rpcbind.socket rpcbind.service rpc-statd.service rpc-statd-notify.service nfs-blkmap.service
  systemctl mask --quiet "$@" 2>/dev/null || fail "the portmapper is not off: systemctl mask rpcbind.socket says why"
  systemctl stop "$@" 2>/dev/null || :
}

# have PROGRAM PACKAGE ELSE: PROGRAM, of PACKAGE, is there; an image that is older than shared homes has neither. ELSE is the
# way out where it cannot be. Ends the program by its function fail.
have() {
  if [ -x "/usr/sbin/$1" ]; then return 0; fi
  without_portmapper
  if ! { apt-get -q -y -o DPkg::Lock::Timeout=300 update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 install --no-install-recommends "$2"; } >&2; then
    fail "$2 is not in the image of this node, and cannot be installed here. Build the image anew (./hpc build_images) and" \
      "give the nodes new disks (hpcstate roll start FILE, with --controller that one too), or $3"
  fi
}
