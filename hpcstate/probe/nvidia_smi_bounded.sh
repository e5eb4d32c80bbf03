# A function for programs that stand behind it: nvidia-smi never holds them up.
# bounded SECONDS SCRIPT ARGUMENT...: runs nvidia-smi for at most SECONDS and prints its output through the awk program
# SCRIPT, then "== end CODE"; without that line it never ended.
#
# A process that waits in the kernel for a GPU off the bus cannot be killed, and timeout(1) waits for its child: hence in
# the background, with a reader that is limited as well, and with none of the caller's files open, which ssh would wait
# for.
bounded() {
  seconds=$1 script=$2
  shift 2
  {
    {
      timeout -k 2 "$seconds" nvidia-smi "$@" 2>&1
      printf '\n== end %s\n' "$?"
    } </dev/null 2>/dev/null &
  } | timeout $((seconds + 3)) awk "/^== end /{print; exit} $script" || :
}
