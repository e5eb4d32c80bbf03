# The function replace_file, for programs that stand behind it: a file is replaced in one step, so that a reader sees the
# old one or the new one. The content comes on standard input, not in argv, where every user of the host could read it.
#
# replace_file PATH MODE [OWNER [MARK]] <CONTENT
# PATH is absolute, its folder is made as needed; MARK is an empty file that is made before the step.
replace_file() (
  mkdir -p "${1%/*}/" && umask 077 && cat >"$1.hpcstate-new" &&
    { [ -z "${3-}" ] || chown "$3" "$1.hpcstate-new"; } && chmod "$2" "$1.hpcstate-new" &&
    { [ -z "${4-}" ] || : >"$4"; } && mv -f "$1.hpcstate-new" "$1"
)
