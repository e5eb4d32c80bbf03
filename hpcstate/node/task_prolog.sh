# What slurmstepd runs as the job's user before each task (TaskProlog, slurm.conf(5)): the job has a folder of its own in
# $scratch, and the task its name in SCRATCH. It always succeeds, for a failure would end the task: where there is no such
# folder, because the server is away or somebody else has the name, SCRATCH is not set, and the job's output says why.
# By environment: scratch, prefix (of the folder's name, before the job's number), limit (seconds that a server has).
# Slurm reads the lines that begin with export, unset and print.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
scratch=${scratch:?} prefix=${prefix-} limit=${limit:-20} job=${SLURM_JOB_ID-}

case $job in
'' | *[!0-9]*) exit 0 ;;
esac
folder=$scratch/$prefix$job
umask 077
# -O: another user may have made it, for a place where all may write.
# shellcheck disable=SC2016 # $1 is that of the inner shell
make='mkdir "$1" 2>/dev/null; [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]'
if timeout --kill-after=5 "$limit" sh -c "$make" sh "$folder" </dev/null >/dev/null 2>&1; then
  echo "export SCRATCH=$folder"
else
  echo 'unset SCRATCH'
  if [ "${SLURM_PROCID:-0}" = 0 ]; then echo "print $(uname -n): $folder cannot be made, SCRATCH is not set"; fi
fi
exit 0
