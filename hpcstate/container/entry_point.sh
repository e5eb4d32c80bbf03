# Where a container has its program, as execvp(3) looks for it: `command -v` of dash names a file that nobody may execute, too.
# sh entry_point.sh PROGRAM: prints the path; 126 where it cannot be executed, 127 where there is none
set -eu
found=$(command -v "$1") || found=$1
case $found in
*/*)
  [ -f "$found" ] || exit 127
  [ -x "$found" ] || exit 126
  ;;
*) command -v "$1" >/dev/null || exit 127 ;;
esac
echo "$found"
