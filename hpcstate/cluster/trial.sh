# A node that came back with another disk, on the controller, for root: nobody else's job gets there before it has passed.
#
# sh trial.sh reserve NODE       only root's jobs start on NODE; those that run go on
# sh trial.sh try NODE GPUS      a job on NODE that gets GPUS GPUs and sees them; on failure it says why
# sh trial.sh release NODE       everybody's jobs start on NODE again
set -eu
action=${1:?} node=${2:?} gpus=${3:-0}
name=hpcstate-roll-$node

reserved() { scontrol --oneliner show reservation "$name" >/dev/null 2>&1; }

case $action in
reserve)
  if reserved; then exit 0; fi
  # MAINT: over other reservations, and in no count of lost time; IGNORE_JOBS: jobs that run there now are awaited later.
  scontrol create reservation reservationname="$name" nodes="$node" starttime=now duration=infinite users=root \
    flags=maint,ignore_jobs >/dev/null
  ;;
release)
  if reserved; then scontrol delete reservationname="$name"; fi
  ;;
try)
  partition=$(sinfo --noheader --nodes="$node" --format=%R | head -n 1)
  if [ -z "$partition" ]; then
    echo "no partition has $node: it was not tried"
    exit 0
  fi
  set -- --reservation="$name" --partition="$partition" --nodelist="$node" --nodes=1 --ntasks=1 --time=2 --immediate=60 \
    --job-name=hpcstate-trial --chdir=/tmp
  if [ "$gpus" -gt 0 ]; then set -- "$@" --gres=gpu:"$gpus"; fi
  # --input=none: srun would read the rest of this program.
  # shellcheck disable=SC2016 # it is the job's shell that expands these
  timeout 150 srun --quiet --input=none "$@" /bin/sh -c '
    set -eu
    if [ "$(hostname)" != "$1" ]; then echo "the node calls itself $(hostname)" >&2; exit 1; fi
    seen=$(printf %s "${CUDA_VISIBLE_DEVICES-}" | tr -cd , | wc -c)
    if [ -n "${CUDA_VISIBLE_DEVICES-}" ]; then seen=$((seen + 1)); fi
    if [ "$seen" -ne "$2" ]; then echo "the job got $seen GPUs of $2 (${CUDA_VISIBLE_DEVICES-none})" >&2; exit 1; fi
    mktemp -d >/dev/null
    apptainer version >/dev/null' trial "$node" "$gpus"
  ;;
esac
