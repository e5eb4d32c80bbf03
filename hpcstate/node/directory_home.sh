# The home of one who is in the directory only, made at the first login, with the skeleton's files. As root:
#   directory_home.sh           for pam_exec, as a session of PAM_USER begins: the home is made, or asked for and waited for
#   directory_home.sh serve     makes those that are asked for, without end
# Where homes come from another node, root is nobody there: one asks by an empty file of one's own in `wanted`, which has
# one's number as its name, and who owns the homes makes it. It never fails: a login without a home is better than none.
# By environment: homes, wanted (folders), least (the least number of a person), mounted (yes: homes are never on the node's
# disk), owns (yes: this node makes them), skeleton, patience (seconds), root (before /proc)
set -uf
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
homes=${homes:?} wanted=${wanted:?} least=${least:?} mounted=${mounted-} owns=${owns-}
skeleton=${skeleton:-/etc/skel} patience=${patience:-45}

# person NAME_OR_NUMBER: sets name, uid and gid of one who is in the directory; false for any other.
person() {
  if getent -s files passwd "$1" >/dev/null; then return 1; fi
  line=$(timeout -k 2 30 getent -s sss passwd "$1") || return 1
  name=${line%%:*}
  line=${line#*:*:}
  uid=${line%%:*}
  line=${line#*:}
  gid=${line%%:*}
  line=${line#*:*:}
  case $name in '' | .* | -* | *[!A-Za-z0-9._-]*) return 1 ;; esac
  case $uid$gid in *[!0-9]*) return 1 ;; esac
  [ "$uid" -ge "$least" ] && [ "${line%%:*}" = "$homes/$name" ]
}

# Whole or not at all: what is there is never touched.
make() {
  if [ -e "$homes/$name" ] || [ -L "$homes/$name" ]; then return; fi
  if [ -n "$mounted" ] && ! mountpoint -q "$homes"; then return; fi
  new=$homes/.$name.hpcstate-new
  rm -rf "$new"
  cp -R "$skeleton" "$new" && chown -R "$uid:$gid" "$new" && chmod 700 "$new" && mv -T "$new" "$homes/$name"
}

serve() {
  while :; do
    if [ -z "$mounted" ] || mountpoint -q "$homes"; then
      [ -d "$wanted" ] || mkdir "$wanted"
      # Anybody may put something there, and see or remove nothing of others.
      chmod 1733 "$wanted"
      find "$wanted" -mindepth 1 -maxdepth 1 -type f -name '[0-9]*' ! -name '*[!0-9]*' -printf '%U %f\n' |
        while read -r owner file; do
          rm -f "${wanted:?}/${file:?}"
          if [ "$owner" = "$file" ] && person "$file" && [ "$uid" = "$file" ]; then make; fi
        done
      find "$wanted" -mindepth 1 -mmin +1 -delete
    fi
    sleep 2
  done
}

# there: a folder at the home. Opening the folder of all homes asks the server anew for what was not there.
there() {
  # shellcheck disable=SC2016 # that of the inner shell
  timeout -s KILL 10 sh -c ': <"$1"; [ -d "$1/$2" ]' sh "$homes" "$name"
}

if [ "${1-}" = serve ]; then serve; fi
if [ "${PAM_TYPE-}" != open_session ] || ! person "${PAM_USER-}" || there; then exit 0; fi
if [ -n "$owns" ]; then
  make
else
  # shellcheck disable=SC2016 # that of the inner shell
  timeout -s KILL 10 setpriv --reuid "$uid" --regid "$gid" --clear-groups sh -c ': >"$1/$2"' sh "$wanted" "$uid" 2>/dev/null
  until there || [ "$patience" -le 0 ]; do
    sleep 1
    patience=$((patience - 1))
  done
fi
there || echo "There is no home $homes/$name yet: tell those who run this cluster."
exit 0
