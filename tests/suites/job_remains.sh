# What a job left behind on a node, for root: waits until its daemon is gone and every job's group belongs to a running
# slurmstepd, which names itself by its step (slurmstepd: [7.0]); then "group NAME" for each that is there, and "daemon",
# which is ended, to leave nothing of ours.
# sh job_remains.sh PROCESS TITLE SCOPES SECONDS: the daemon's number and command line, the folder of the groups
# (a pattern).
process=$1 title=$2 scopes=$3

is_there() { grep -qsz "^$title\$" "/proc/$process/cmdline"; }

groups() {
  steps=$(grep -saoh '^slurmstepd: \[[0-9]*' /proc/[0-9]*/cmdline | tr '\n' ' ')
  # shellcheck disable=SC2231 # a pattern: Slurm may put the node's name before the group's
  for group in $scopes/job_*; do
    [ -d "$group" ] || continue
    case $steps in *"[${group##*/job_} "*) ;; *) echo "group ${group##*/}" ;; esac
  done
}

limit=$(($(date +%s) + $4))
while [ "$(date +%s)" -lt "$limit" ] && { is_there || [ -n "$(groups)" ]; }; do sleep 0.3; done
groups
if is_there; then
  echo daemon
  kill -KILL "$process"
fi
