# The jobs that hold resources on a node: a line that says who answers for it, then their numbers.
#   slurmctld NODE      knows all nodes; what squeue prints, with its errors
#   slurmstepd NODE     slurmctld is silent, but this is the node itself: a process "slurmstepd: [JOB.STEP]" for each step
#   unknown NODE        nobody knows
#   absent              Slurm is not installed or not configured at all
# sh slurm_jobs.sh NODE STATES; STATES are squeue's, separated by commas.
node=$1 states=$2

said=$(timeout 10 scontrol ping 2>&1)
read -r here </proc/sys/kernel/hostname
case $said in
*" is UP"*)
  printf 'slurmctld %s\n' "$node"
  timeout 30 squeue --noheader --states="$states" --nodelist="$node" --format=%A 2>&1 || :
  ;;
*)
  if [ "${here%%.*}" = "$node" ]; then
    printf 'slurmstepd %s\n' "$node"
    grep -saoh '^slurmstepd: \[[0-9][0-9]*' /proc/[0-9]*/cmdline || :
  else
    case $said in
    *"configuration source"*) echo absent ;;
    *) if command -v scontrol >/dev/null; then printf 'unknown %s\n' "$node"; else echo absent; fi ;;
    esac
  fi
  ;;
esac
