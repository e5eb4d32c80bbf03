# The accounts of people on a node, as root; behind replace_file.sh. Each line of the standard input is an action and
# its words, separated by the character 037 (octal); what each does, it can do again:
#   group NAME NUMBER               a group
#   user NAME NUMBER SHELL [FULL]   an account without a password and without a home, with a group of its own
#   own NAME NUMBER                 the account's own group
#   change NAME OPTION VALUE...     options of usermod(8)
#   join NAME GROUP, quit NAME GROUP
#   leave NAME NUMBER               locked: nothing of it is ended or removed
#   back NAME NUMBER                unlocked
#   home NAME NUMBER PATH           a home with the skeleton's files, where there is none
#   keys NAME [LINE]...             the file of public keys, no file without a LINE
#   sudoers [LINE]...               the file of sudo, which sudo can read; no file without a LINE
# By environment: record (accounts that are ours), keys (a folder), sudoers (a file), skeleton
set -euf
umask 022
record=${record:?} keys=${keys:?} sudoers=${sudoers:?} skeleton=${skeleton:-/etc/skel}

# note KIND NAME NUMBER [left]: before an account is made, so that an interrupted one is known as ours.
note() {
  if ! grep -qsxF "$*" "$record"; then
    { grep -sv "^$1 $2 " "$record" || :; printf '%s\n' "$*"; } | replace_file "$record" 644
  fi
}

do_group() {
  note group "$1" "$2"
  getent group "$1" >/dev/null || groupadd --gid "$2" "$1"
}

do_own() {
  getent group "$1" >/dev/null || groupadd --gid "$2" "$1"
  usermod --gid "$2" "$1"
}

do_user() {
  note user "$1" "$2"
  getent group "$1" >/dev/null || groupadd --gid "$2" "$1"
  # Subordinate numbers come by a rule of ours (deploys/containers.py): useradd would take the next free ones.
  useradd --uid "$2" --gid "$2" --home-dir "/home/$1" --no-create-home --shell "$3" --comment "${4-}" --password '*' \
    --key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0 "$1"
}

do_change() {
  name=$1
  shift
  usermod "$@" "$name"
}

do_join() { gpasswd --add "$1" "$2" >/dev/null; }
do_quit() { gpasswd --delete "$1" "$2" >/dev/null; }

do_leave() {
  usermod --lock --expiredate 1 "$1"
  note user "$1" "$2" left
}

do_back() {
  usermod --password '*' --expiredate '' "$1"
  note user "$1" "$2"
}

# Whole or not at all: one that is there is never touched again.
do_home() {
  if [ -e "$3" ]; then return; fi
  new=${3%/*}/.$1.hpcstate-new
  rm -rf "$new"
  cp -R "$skeleton" "$new"
  chown -R "$2:$2" "$new"
  chmod 700 "$new"
  mv -T "$new" "$3"
}

do_keys() {
  file=$keys/$1
  shift
  if [ $# -eq 0 ]; then rm -f "$file"; else printf '%s\n' "$@" | replace_file "$file" 644 root:root; fi
}

do_sudoers() {
  if [ $# -eq 0 ]; then
    rm -f "$sudoers"
    return
  fi
  # sudo passes over names with a dot in this folder, and reads nothing at all when a file is wrong (sudoers(5)).
  printf '%s\n' "$@" | replace_file "$sudoers.check" 440
  if ! visudo --check --quiet --file="$sudoers.check"; then
    rm -f "$sudoers.check"
    echo "sudo cannot read what was to become $sudoers: it stays as it is" >&2
    exit 1
  fi
  printf '%s\n' "$@" | replace_file "$sudoers" 440 root:root
  rm -f "$sudoers.check"
}

separator=$(printf '\037')
while IFS= read -r line <&3; do
  IFS=$separator
  # shellcheck disable=SC2086 # its words
  set -- $line
  unset IFS
  action=$1
  shift
  "do_$action" "$@"
done 3<&0 </dev/null
