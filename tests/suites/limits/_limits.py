"""Runs inside a job: reports the limits that the kernel holds the task to."""

import json
import os
import socket
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")

given = sorted(os.sched_getaffinity(0))
try:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    answer = "allowed"
except OSError as error:
    answer = error.strerror or str(error)
group = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]
memory = []
folder = MOUNT / group.lstrip("/")
while folder != MOUNT:
    limit = folder / "memory.max"
    if limit.exists() and limit.read_text().strip() != "max":
        memory.append(int(limit.read_text()))
    folder = folder.parent
report = {
    "host": socket.gethostname(),
    "cpus_of_node": os.cpu_count(),
    "cpus_given": given,
    "cpus_after_widening": sorted(os.sched_getaffinity(0)),
    "widening": answer,
    "cpus_of_job": int(os.environ.get("SLURM_CPUS_ON_NODE", "0")),
    "memory_bytes": min(memory, default=None),
}
print(json.dumps(report) + "\n", end="", flush=True)
