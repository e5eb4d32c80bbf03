# Which files of Slurm's folder its daemons on this host may have read: those that were changed before the main process
# of the daemon started. slurmctld and slurmd have a new one after a reconfigure, too (scontrol(1), reconfigure, since
# 23.11). A line "DAEMON FILE" for each; nothing of a daemon that does not run.
# sh slurm_read.sh FOLDER
for daemon in slurmctld slurmd; do
  pid=$(timeout 10 systemctl show --property=MainPID --value "$daemon.service" 2>/dev/null) || continue
  case $pid in '' | 0) continue ;; esac
  age=$(ps -o etimes= -p "$pid") || continue
  # ps(1) rounds the age to seconds, and a restart comes right behind the change of a file: 2 s more.
  started=$(($(date +%s) - age + 2))
  find "$1" -maxdepth 1 -name '*.conf' ! -name '*[![:print:]]*' ! -newerct "@$started" -printf "$daemon %f\n" 2>/dev/null
done
:
