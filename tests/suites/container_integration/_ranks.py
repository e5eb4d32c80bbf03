"""Runs in each task of the job, in the container: one world, and a sum of 8 MiB from each rank."""

import json
import os
import socket
from array import array

from mpi4py import MPI

COUNT = 1 << 20

world = MPI.COMM_WORLD
mine = array("d", [world.rank + 1.0]) * COUNT
total = array("d", [0.0]) * COUNT
world.Allreduce(mine, total, op=MPI.SUM)
report = {
    "rank": world.rank,
    "size": world.size,
    "host": socket.gethostname(),
    "sums": sorted(set(total)),
    "numbers": len(total),
    "library": MPI.Get_library_version().split(",")[0],
    "slurm_rank": os.environ.get("SLURM_PROCID"),
    "container": os.environ.get("APPTAINER_NAME", ""),
    "user": os.getuid(),
}
print(json.dumps(report) + "\n", end="", flush=True)
