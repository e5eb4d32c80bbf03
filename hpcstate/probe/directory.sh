# What a node has of a directory of people, a line each:
#   installed                   there is sssd
#   record                      our note that it is ours
#   conf                        there is an sssd.conf, whoever wrote it
#   unit NAME ENABLED ACTIVE    systemctl's words for each UNIT that exists
# sh directory.sh UNIT...; by environment: record, conf, program (paths), root (before each)
record=${record:?} conf=${conf:?} program=${program:?} root=${root-}

if [ -x "$root$program" ]; then echo installed; fi
if [ -e "$root$record" ]; then echo record; fi
if [ -e "$root$conf" ]; then echo conf; fi
for unit; do
  enabled=$(systemctl is-enabled "$unit" 2>/dev/null)
  case $enabled in '' | not-found) continue ;; esac
  printf 'unit %s %s %s\n' "$unit" "$enabled" "$(systemctl is-active "$unit" 2>/dev/null)"
done
:
