# The Debian packages that the cluster file adds, and those that were installed for it; a line each:
#   own NAME, with NAME     those that hpcstate installed, by its record: for the file, or along with one of those
#   installed NAME          each NAME..., and each of the record, that is installed
#   needs NAME OTHER        OTHER would go with NAME, which is own, installed, and no longer among NAME...
# record=FILE sh packages.sh NAME...
record=${record:?}

noted=$(cat "$record" 2>/dev/null)
if [ -n "$noted" ]; then printf '%s\n' "$noted"; fi
names=$(printf '%s\n' "$noted" | cut -d ' ' -f 2)
[ -n "$names$*" ] || exit 0

# shellcheck disable=SC2016,SC2086 # dpkg-query's own; a list
installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' $names "$@" 2>/dev/null |
  sed -n 's/^installed //p' | sort -u)
if [ -n "$installed" ]; then printf '%s\n' "$installed" | sed 's/^/installed /'; fi

for name in $(printf '%s\n' "$noted" | sed -n 's/^own //p'); do
  case " $* " in *" $name "*) continue ;; esac
  if printf '%s\n' "$installed" | grep -qxF "$name"; then
    LC_ALL=C apt-get --simulate remove "$name" 2>/dev/null |
      sed -n 's/^Remv \([^ ]*\).*/\1/p' | grep -vxF "$name" | sed "s/^/needs $name /"
  fi
done
:
