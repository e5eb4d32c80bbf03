# Which paths the batch scripts of jobs name which wait or run, for root on the controller: "job NUMBER PATH"; those that
# they were submitted with: "given JOB PATH" (squeue(1), -O Container); and "asked JOB NUMBER" for each job.
# The scripts are read where slurmctld keeps them (slurm.conf(5), StateSaveLocation), all at once; those of an array are
# kept under the number of the array (squeue(1), %F). Fails when slurmctld does not answer.
# sh use_jobs.sh PATTERN (of a path, as grep -E takes it)
state=$(timeout 30 scontrol show config | sed -n 's/^StateSaveLocation *= *//p')
[ -n "$state" ] || exit 1
states=PENDING,CONFIGURING,RUNNING,SUSPENDED,REQUEUED,RESIZING,STOPPED
jobs=$(timeout 60 squeue --noheader --array --format='%A %F' --states=$states) || exit 1
given=$(timeout 60 squeue --noheader --Format=JobID:12,Container:4097 --states=$states) || exit 1

printf '%s\n' "$given" | while read -r job file; do
  if [ -n "$file" ]; then echo "given $job $file"; fi
done
# shellcheck disable=SC2086 # each job has two numbers
printf '%s\n' $jobs | sort -u | sed 's/^/asked /'
find "$state" -maxdepth 3 -path '*/hash.*/job.*/script' -exec grep -HaoE "$1" {} + |
  sed -n 's|^.*/job\.\([0-9]*\)/script:|job \1 |p'
:
