# Who may use how much, on a controller whose slurmdbd answers; behind replace_file.sh, as root. Each line of the
# standard input has words, separated by the character 037 (octal):
#   record JSON   what of slurmdbd's is ours
#   WORD...       sacctmgr's, which asks nothing
# By environment: client (a slurm.conf), record (a file). Ends at the first line that fails.
set -euf
umask 022
client=${client:?} record=${record:?}
separator=$(printf '\037')
export SLURM_CONF="$client"

until=$(($(date +%s) + 60))
until timeout 20 sacctmgr ping >/dev/null 2>&1; do
  [ "$(date +%s)" -lt "$until" ] || {
    echo "slurmdbd does not answer: nothing was changed; journalctl -u slurmdbd says why" >&2
    exit 1
  }
  sleep 1
done

while IFS= read -r line; do
  old=$IFS
  IFS=$separator
  # shellcheck disable=SC2086 # these are the words, and there are no patterns (set -f)
  set -- $line
  IFS=$old
  if [ "$1" = record ]; then
    printf '%s\n' "$2" | replace_file "$record" 644
  elif ! said=$(timeout 120 sacctmgr --immediate "$@" </dev/null 2>&1); then
    printf 'sacctmgr --immediate %s\n%s\n' "$*" "$said" >&2
    exit 1
  fi
done
