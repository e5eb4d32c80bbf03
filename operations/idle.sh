# demand_idle PLACE WHY: ends the program where processes have a file, their program or their working directory in PLACE,
# and names them: what is mounted there would hide from them what they write. By environment: proc (of the kernel).
demand_idle() {
  found=$(find "${proc:-/proc}"/[0-9]*/cwd "${proc:-/proc}"/[0-9]*/exe "${proc:-/proc}"/[0-9]*/fd -maxdepth 1 \
    '(' -lname "$1" -o -lname "$1/*" ')' ! -lname '* (deleted)' 2>/dev/null |
    sed "s,^${proc:-/proc}/\([0-9]*\)/.*,\1," | sort -nu | head -n 10)
  if [ -z "$found" ]; then return 0; fi
  named=
  for pid in $found; do
    # One that has ended meanwhile has neither.
    if program=$(cat "${proc:-/proc}/$pid/comm" 2>/dev/null) && user=$(stat -c %U "${proc:-/proc}/$pid" 2>/dev/null); then
      named="$named${named:+, }$program ($pid of $user)"
    fi
  done
  if [ -z "$named" ]; then return 0; fi
  echo "processes use $1: $named. $2 Nothing was changed: deploy again when they have ended" >&2
  exit 1
}
