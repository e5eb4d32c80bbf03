# The *.conf files of a folder: a table "SIZE ./NAME", an empty line, their contents one after the other.
# sh slurm_files.sh FOLDER SECRET...; files named SECRET are left out.
if cd "$1" 2>/dev/null; then
  shift
  secret=/$(printf '%s/' "$@")
  set --
  for file in *.conf; do
    case $secret in */"$file"/*) continue ;; esac
    if [ -f "$file" ]; then set -- "$@" "./$file"; fi
  done
  if [ $# -gt 0 ]; then stat -L -c '%s %n' -- "$@" && echo && cat -- "$@"; fi
fi
