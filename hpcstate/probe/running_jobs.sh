# The jobs that hold resources anywhere in the cluster: a line that says who answers, then a job a line.
#   slurmctld   JOB|USER|NODES|TIME LEFT, as squeue prints them (squeue(1), --format)
#   silent      slurmctld does not answer
#   absent      nothing of Slurm was ever deployed here
# sh running_jobs.sh STATES APPLIED; STATES are squeue's, separated by commas, APPLIED is the folder with the record of
# what the daemon runs with.
case "$(timeout 10 scontrol ping 2>/dev/null)" in
*" is UP"*)
  if jobs=$(timeout 30 squeue --noheader --states="$1" --format='%A|%u|%N|%L' 2>/dev/null); then
    printf 'slurmctld\n%s\n' "$jobs"
  else
    echo silent
  fi
  ;;
*) if [ -e "$2/slurm.conf" ]; then echo silent; else echo absent; fi ;;
esac
