# People of a directory on a node, as root:
#   on         sssd is on by the files that were written, and asks anew
#   off        sssd is off; what was written for it, and what it knows of people, is gone
#   forget     the same, and what Debian leaves of its packages when they are removed
# By environment: record, homes_unit, homes_file, wanted (a folder), files, sockets (lists), homes (yes: this node makes homes),
# pending (the end of the name of a mark beside a file), restart (yes)
set -eu
record=${record:?} homes_unit=${homes_unit:?} homes_file=${homes_file:?} wanted=${wanted:?} files=${files:?}
sockets=${sockets:?} homes=${homes-} pending=${pending:?} restart=${restart-}
export LC_ALL=C

without_homes() {
  if [ -e "$homes_file" ]; then
    systemctl disable --quiet --now "$homes_unit"
    rm -f "$homes_file"
  fi
  if [ -d "$wanted" ]; then rm -rf "$wanted"; fi
}

off() {
  without_homes
  if systemctl --quiet is-active sssd || systemctl --quiet is-enabled sssd 2>/dev/null; then
    systemctl disable --quiet --now sssd
  fi
  for file in $files; do rm -f "$file" "$file$pending"; done
  rmdir /etc/systemd/system/sssd.service.d /usr/local/lib/hpcstate 2>/dev/null || :
  # People's names and keys; mc is what programs have mapped of it.
  rm -rf /var/lib/sss/db/* /var/lib/sss/mc/*
  systemctl daemon-reload
}

case $1 in
on)
  systemctl daemon-reload
  for socket in $sockets; do
    if systemctl --quiet is-enabled "$socket" 2>/dev/null; then systemctl disable --quiet --now "$socket"; fi
  done
  systemctl unmask --quiet sssd
  systemctl enable --quiet sssd
  systemctl reset-failed sssd 2>/dev/null || :
  if [ -n "$restart" ]; then systemctl stop sssd; fi
  if ! systemctl start sssd; then
    journalctl --unit=sssd --lines=10 --no-pager --output=cat >&2
    exit 1
  fi
  # What it knows already counts on only while the directory does not answer.
  sss_cache --everything 2>/dev/null || :
  if [ -n "$homes" ]; then
    systemctl enable --quiet "$homes_unit"
    systemctl restart "$homes_unit"
  else
    without_homes
  fi
  for file in $files; do rm -f "$file$pending"; done
  ;;
off) off ;;
forget)
  off
  if [ ! -x /usr/sbin/sssd ]; then
    # shellcheck disable=SC2016 # dpkg-query's own
    left=$(dpkg-query --show --showformat='${db:Status-Abbrev} ${Package}\n' '*sss*' 2>/dev/null | sed -n 's/^rc *//p')
    # shellcheck disable=SC2086 # a list
    if [ -n "$left" ]; then dpkg --purge $left >/dev/null; fi
    rm -rf /var/lib/sss /var/log/sssd
    rmdir /etc/sssd/conf.d /etc/sssd 2>/dev/null || :
    userdel sssd 2>/dev/null || :
  fi
  rm -f "$record"
  ;;
esac
