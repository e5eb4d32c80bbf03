# Who may use how much of a Slurm cluster, as slurmdbd has it; on its controller, for root. A line for each of:
# client=SLURM_CONF record=FILE wanted=yes|'' jobs=yes|'' sh associations.sh CLUSTER USER...
#   record JSON                          what hpcstate made
#   cluster NAME                         CLUSTER: associations of others may follow
#   nobody NAME                          a USER whom this node does not know
#   tres|qos|account|user|association JSON   as `sacctmgr --json show` has them; associations without inherited limits
#   job ACCOUNT|USER|QOS                 of each job that runs or waits
#   silent                               slurmctld was not asked, or did not say, which jobs there are
#   answers                              slurmdbd did, wholly
# Nothing where nothing is wanted, and nothing was made.
client=${client:?} record=${record:?}
cluster=$1
shift

if [ -f "$record" ]; then
  printf 'record %s\n' "$(tr -d '\n' <"$record")"
elif [ -z "${wanted-}" ]; then
  exit 0
fi
for name; do
  getent passwd "$name" >/dev/null || echo "nobody $name"
done
[ -f "$client" ] || exit 0
echo "cluster $cluster"

# show KEY WORD...: one line of JSON; a line break is none within a text of JSON.
show() {
  key=$1
  shift
  text=$(SLURM_CONF=$client timeout 60 sacctmgr --json show "$@" 2>/dev/null) || return 1
  printf '%s %s\n' "$key" "$(printf '%s\n' "$text" | sed 's/^ *//' | tr -d '\n')"
}

if show tres tres && show qos qos && show account account && show user user &&
  show association association WOPLimits; then
  # Limits that an association has from its parents would otherwise look like its own (sacctmgr(1), WOPLimits).
  if [ -z "${jobs-}" ]; then
    echo silent
  elif found=$(timeout 30 squeue --noheader --all --format='job %a|%u|%q' 2>/dev/null); then
    printf '%s\n' "$found" | grep . | sort -u
  else
    echo silent
  fi
  echo answers
fi
:
