# Debian packages come and go, as root; behind replace_file.sh.
#   add NAME...      installed without recommended ones; noted before that, with what comes along
#   own NAME...      those that came along are wanted for themselves now
#   along NAME...    those that were wanted stay as long as others need them
#   remove NAME...   removed, with those that came along and that nothing needs any more; nothing else
#   forget NAME...   those that somebody else has removed
# A reason goes to standard error, in sentences, and the exit code is 1.
# cat replace_file.sh packages.sh | record=FILE apt_get='apt-get …' (as env takes it) sh -s ACTION NAME...
set -eu
record=${record:?} apt_get=${apt_get:?}
export LC_ALL=C
action=$1
shift

refuse() {
  printf '%s\n' "$@" >&2
  exit 1
}

# apt WORD...: what apt-get says, or why it does not do it.
apt() {
  # shellcheck disable=SC2086 # words of env
  if ! said=$(env $apt_get "$@" 2>&1 </dev/null); then
    why=$(printf '%s\n' "$said" | sed -n 's/^E: //p' | tail -n 3)
    refuse "apt-get: ${why:-$(printf '%s\n' "$said" | tail -n 1)}" "is a mirror in reach? \`apt-get update\` on this node tells"
  fi
  printf '%s\n' "$said"
}

# note KIND NAME...: their only lines.
note() {
  kind=$1
  shift
  {
    unnoted "$@"
    printf "$kind %s\n" "$@"
  } | replace_file "$record" 644
}

# unnoted NAME...: the record without them.
unnoted() {
  if [ -e "$record" ]; then printf '%s\n' "$@" | awk 'NR == FNR { gone[$1]; next } !($2 in gone)' - "$record"; fi
}

case $action in
add)
  # apt-get calls it no error when a source does not answer.
  silent=$(apt update | sed -n 's/^W: \(Failed to fetch .*\)/\1/p' | head -n 1)
  for name; do
    # apt-get would take a name that it does not know for a pattern (apt-get(8), install).
    case $(apt-cache policy "$name" 2>/dev/null) in
    *'Candidate: (none)'* | '') refuse "there is no package $name in the sources of this node${silent:+, and one does not answer: $silent}" \
      "\`apt-cache search\` there finds names; \`packages\` of the cluster file has them" ;;
    esac
  done
  planned=$(apt --simulate install --no-install-recommends "$@")
  goes=$(printf '%s\n' "$planned" | sed -n 's/^Remv \([^ ]*\).*/\1/p' | paste -s -d ' ')
  if [ -n "$goes" ]; then
    refuse "to install $* apt-get would remove $goes: nothing was changed" \
      "take what is in the way out of \`packages\` of the cluster file"
  fi
  # A version in brackets is that of a package which is there already.
  new=$(printf '%s\n' "$planned" | sed -n 's/^Inst \([^ ]*\) (.*/\1/p')
  along=$(printf '%s\n' "$new" | grep -vxF "$(printf '%s\n' "$@")" || :)
  # shellcheck disable=SC2086 # a list
  if [ -n "$along" ]; then note with $along; fi
  note own "$@"
  apt install --no-install-recommends "$@" >/dev/null
  ;;
own)
  apt-mark manual "$@" >/dev/null
  note own "$@"
  ;;
along)
  apt-mark auto "$@" >/dev/null
  note with "$@"
  ;;
remove)
  planned=$(apt --simulate remove --auto-remove "$@" | sed -n 's/^Remv \([^ ]*\).*/\1/p')
  ours=$(cut -d ' ' -f 2 "$record")
  goes=$(printf '%s\n' "$planned" | grep -xF "$ours" || :)
  # shellcheck disable=SC2086 # a list
  if [ -n "$goes" ]; then
    apt remove $goes >/dev/null
    unnoted $goes "$@" | replace_file "$record" 644
  fi
  ;;
forget) unnoted "$@" | replace_file "$record" 644 ;;
esac
