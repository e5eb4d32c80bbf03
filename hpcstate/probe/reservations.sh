# The reservations of a cluster, as its slurmctld has them; on its controller, for root. A line for each of:
#   now TIME           the controller's clock, like all times here
#   json JSON          `scontrol --json show reservation`
#   line LINE          each of `scontrol --oneliner show reservation`: Comment, REPLACE_DOWN and local times,
#                      which the JSON of 24.11 has not
#   job NAMES          the reservations that a job which runs or waits names
#   silent             slurmctld does not say which jobs there are
#   answers            slurmctld did, wholly
export SLURM_TIME_FORMAT=standard
printf 'now %s\n' "$(date +%Y-%m-%dT%H:%M:%S)"
command -v scontrol >/dev/null || exit 0

# An empty list is said in words by --oneliner.
if text=$(timeout 20 scontrol --json show reservation 2>/dev/null) &&
  lines=$(timeout 20 scontrol --oneliner show reservation 2>/dev/null); then
  printf 'json %s\n' "$(printf '%s\n' "$text" | sed 's/^ *//' | tr -d '\n')"
  printf '%s\n' "$lines" | sed -n 's/^ReservationName=/line &/p'
  if found=$(timeout 30 squeue --noheader --all --format='job %v' 2>/dev/null); then
    printf '%s\n' "$found" | grep . | sort -u
  else
    echo silent
  fi
  echo answers
fi
:
