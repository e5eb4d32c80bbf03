# Reservations of a cluster; on its controller, as root. Each line of the standard input has the words of
# a call of scontrol, separated by the character 037 (octal). What fails is tried once more when all others are
# done, because one may lie where another has to go first. Ends with 1 when something stays undone.
set -uf
separator=$(printf '\037')

try() {
  old=$IFS
  IFS=$separator
  # shellcheck disable=SC2086 # these are the words, and there are no patterns (set -f)
  set -- $1
  IFS=$old
  said=$(timeout 60 scontrol "$@" </dev/null 2>&1) && return
  again="$again$line
"
  told="${told}scontrol $*
$said
"
}

again='' told=''
while IFS= read -r line; do
  try "$line"
done
rest=$again again='' told=''
while IFS= read -r line; do
  [ -z "$line" ] || try "$line"
done <<END
$rest
END
[ -z "$again" ] || {
  printf '%s' "$told" >&2
  echo "in the way are jobs that run beyond its start (unless it has IGNORE_JOBS), and others (unless it has OVERLAP)" >&2
  exit 1
}
