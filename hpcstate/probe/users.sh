# The accounts of people on this host, and what belongs to them; for root. A line each:
#   record KIND NAME NUMBER [left]      our own note of an account that hpcstate made
#   passwd LINE, group LINE             of passwd(5) and group(5): those noted, and each WORD (a name or a number) that exists
#   expires NAME DAY                    when the account ends (shadow(5)), nothing for never
#   keys MODE OWNER:GROUP SHA256 NAME   a file in the folder of keys that only root writes
#   sudoers MODE OWNER:GROUP SHA256     our own file of sudo
#   home NUMBER PATH                    a folder below `homes`, and whose it is
# sh users.sh WORD...; by environment: record, keys, sudoers (paths), homes (a folder; empty: no question)
record=${record:?} keys=${keys:?} sudoers=${sudoers:?} homes=${homes-}

# file WORD PATH NAME
file() {
  if [ -f "$2" ]; then
    printf '%s %s %s%s\n' "$1" "$(stat -c '%a %U:%G' -- "$2")" "$(sha256sum <"$2" | cut -d ' ' -f 1)" "${3:+ $3}"
  fi
}

names=
if [ -f "$record" ]; then
  sed 's/^/record /' "$record"
  names=$(cut -d ' ' -f 2 "$record")
fi
# shellcheck disable=SC2086 # a list
if [ -n "$names" ]; then set -- $names "$@"; fi

if [ $# -gt 0 ]; then
  getent passwd "$@" | sort -u | sed 's/^/passwd /'
  getent shadow "$@" | sort -u | cut -d : -f 1,8 | sed 's/^\(.*\):/expires \1 /'
fi
getent group sudo "$@" | sort -u | sed 's/^/group /'

for path in "$keys"/*; do file keys "$path" "${path##*/}"; done
file sudoers "$sudoers" ''

if [ -n "$homes" ]; then
  for path in "$homes"/*/; do
    if [ -d "$path" ]; then printf 'home %s %s\n' "$(stat -c %u -- "$path")" "${path%/}"; fi
  done
fi
:
