#!/bin/sh
# The message of the day: partitions, how many of their nodes are idle, and the user's own jobs. Slurm is asked for two
# seconds at most, and both questions at once: a login waits for no slurmctld that hangs.
seconds=${HPCSTATE_MOTD_SECONDS:-2}

exec 3>&1
jobs=$(
  {
    # %F: allocated/idle/other/total (sinfo(1)).
    nodes=$(timeout --kill-after=1 "$seconds" sinfo --noheader --format='%P %F' 2>/dev/null)
    if [ -n "$nodes" ]; then
      printf '%s\n' "$nodes" | awk -F '[ /]' '
        BEGIN { printf "%-16s %6s %6s %6s %6s\n", "PARTITION", "NODES", "IDLE", "ALLOC", "DOWN" }
        { printf "%-16s %6s %6s %6s %6s\n", $1, $5, $3, $2, $4 }'
    else
      echo "slurmctld does not answer within $seconds s: jobs that run go on, new ones have to wait."
    fi
  } >&3 &
  timeout --kill-after=1 "$seconds" squeue --me --noheader --format=%T 2>/dev/null
  wait
)
if [ -n "$jobs" ]; then
  printf '%s\n' "$jobs" | sort | uniq -c | awk '
    { text = text (text == "" ? "" : ", ") $1 " " tolower($2) }
    END { print "Your jobs: " text " (squeue --me)" }'
fi
