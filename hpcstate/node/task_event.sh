# What slurmstepd runs as the job's user before each task (TaskProlog, slurm.conf(5)), where nodes are watched: the first
# task of a step on this node leaves what MPI and its like were told by the environment, for the epilog to record. It fails
# nothing and says nothing. What else a task has in its environment is nobody's business.
# By environment: events (where the prolog made a folder for the job).
PATH=/usr/sbin:/usr/bin:/sbin:/bin
events=${events:?}

case ${SLURM_JOB_ID-} in
'' | *[!0-9]*) ;;
*)
  tasks=$events/$SLURM_JOB_ID/tasks
  if [ "${SLURM_LOCALID:-0}" = 0 ] && [ -d "$tasks" ] && [ -w "$tasks" ]; then
    {
      date -u +time=%Y-%m-%dT%H:%M:%SZ
      env | grep -E '^(SLURM_(STEP_ID|STEP_NUM_TASKS|NTASKS|NNODES|NODEID|PROCID|MPI_TYPE|STEP_NODELIST)|MASTER_ADDR|MASTER_PORT|WORLD_SIZE|CUDA_VISIBLE_DEVICES|(OMPI_MCA|NCCL|UCX|PMIX_MCA|GLOO)_[A-Z0-9_a-z]+)=' |
        cut -c 1-400 | head -n 100
    } >"$tasks/${SLURM_STEP_ID:-0}" 2>/dev/null || :
  fi
  ;;
esac
