# Quotas of users on the file system mounted at $top, run there as root:
#
# cat hpcstate/replace_file.sh operations/quotas.sh | NAME=VALUE... sh -s ACTION WORD...
#   install           the programs for quotas, on a node whose image has none
#   set UID=KIB...    hard limits, 0 for none; those with one are noted in $record before that
# By environment: top, record, on (not empty: limits hold from now on)
set -eu
top=${top:?} record=${record:?} on=${on-}
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "$*" >&2
  exit 1
}

install() {
  # It would tell nodes what their users have, with the portmapper, which is off: and fail.
  systemctl mask --quiet quotarpc.service
  if ! { apt-get -q -y -o DPkg::Lock::Timeout=300 update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 install --no-install-recommends quota; } >&2; then
    fail "quota is not in the image of this node, and cannot be installed here. Build the image anew (./hpc build_images) and" \
      "give the controller a new disk (hpcstate roll start FILE --controller), or take home_quota_gb out of the file"
  fi
}

# note UID KIB: whose limit is ours is known before it is set, and until it is gone.
note() {
  { grep -svxF "$1" "$record" || :; if [ "$2" != 0 ]; then echo "$1"; fi; } | replace_file "$record" 600
}

set_limits() {
  for word; do
    if [ "${word#*=}" != 0 ]; then note "${word%%=*}" "${word#*=}"; fi
    setquota -u "${word%%=*}" 0 "${word#*=}" 0 0 "$top"
    if [ "${word#*=}" = 0 ]; then note "${word%%=*}" 0; fi
  done
  # One that is on already is no failure.
  if [ "$on" ]; then
    said=$(quotaon -u "$top" 2>&1) || quotaon -p -u "$top" 2>/dev/null | grep -q ' is on' || fail "quotas do not hold: $said"
  fi
}

action=$1
shift
case $action in
install) install ;;
set) set_limits "$@" ;;
*) fail "$action is none of the actions" ;;
esac
