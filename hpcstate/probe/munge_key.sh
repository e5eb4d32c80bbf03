# The munge key: "MODE USER GROUP" and its digest; nothing without a key, "unreadable" without the right to look.
# Debian's /etc/munge has mode 0700, so that anybody but root and munge sees no key at all.
# sh munge_key.sh PATH
folder=${1%/*}
folder=${folder:-/}
if [ -d "$folder" ] && [ ! -x "$folder" ]; then
  echo unreadable
elif [ -f "$1" ]; then
  stat -L -c '%a %U %G' -- "$1"
  if [ -r "$1" ]; then sha256sum <"$1"; else echo unreadable; fi
fi
