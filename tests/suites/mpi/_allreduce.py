"""Runs in each task of the job: adds up all ranks, and passes a megabyte from the first rank to all."""

import json
import os
import socket

from mpi4py import MPI

BYTES = 1_000_000

world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
message = world.bcast(bytes(BYTES) if world.rank == 0 else None)
report = {
    "rank": world.rank,
    "size": world.size,
    "sum": total,
    "bytes": len(message),
    "host": socket.gethostname(),
    "library": MPI.Get_library_version().split(",")[0],
    "job": os.environ.get("SLURM_JOB_ID"),
    "slurm_rank": os.environ.get("SLURM_PROCID"),
    "slurm_size": os.environ.get("SLURM_NTASKS"),
    "pmix_rank": os.environ.get("PMIX_RANK"),
    "pmix_namespace": os.environ.get("PMIX_NAMESPACE"),
}
print(json.dumps(report) + "\n", end="", flush=True)
