# The controller before and after it gets a new disk; run there as root: sh controller.sh ACTION
#   look    "next JOB", the number of the next job, then "job ID STATE" of each job that slurmctld knows; nothing where it
#           does not answer
#   leave   slurmctld is stopped, and its state copied beside where it lies: a newer slurmctld may write what the one of the
#           old disk cannot read; it goes on where that fails
#   stay    slurmctld goes on, after all
# By environment: state, the folder with slurmctld's state on the data volume.
set -eu
state=${state:?}

case ${1:?} in
look)
  if ! config=$(timeout 20 scontrol show config 2>/dev/null); then exit 0; fi
  if ! jobs=$(timeout 30 squeue --noheader --states=all --format='job %A %T' 2>/dev/null); then exit 0; fi
  printf '%s\n' "$config" | sed -n 's/^NEXT_JOB_ID *= *\([0-9][0-9]*\).*/next \1/p'
  printf '%s\n' "$jobs"
  ;;
leave)
  trap 'systemctl start slurmctld' EXIT
  trap 'exit 1' HUP INT TERM
  systemctl stop slurmctld
  rm -rf "$state.new"
  cp -a "$state" "$state.new"
  rm -rf "$state.before"
  mv -T "$state.new" "$state.before"
  sync -f "$state.before"
  trap - EXIT
  ;;
stay) systemctl start slurmctld ;;
esac
