"""Runs in each task of the job, in the container: prints what torch.distributed would read, as JSON."""

import json
import os
import socket

NAMES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK")
report = {
    "host": socket.gethostname(),
    "slurm_rank": os.environ.get("SLURM_PROCID"),
    "environment": {name: os.environ.get(name, "") for name in NAMES},
}
print(json.dumps(report) + "\n", end="", flush=True)
