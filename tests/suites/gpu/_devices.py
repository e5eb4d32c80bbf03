"""Runs inside a job: opens every GPU device of the node, reports how each open went, and stays a while.

The kernel's device filter answers EPERM for a device that is not the job's. A simulated device that passes
the filter answers ENXIO (there is no driver), a real one opens.
"""

import errno
import json
import os
import re
import socket
import sys
import time
from pathlib import Path

opened = {}
for path in sorted(Path("/dev").iterdir()):
    if re.fullmatch(r"nvidia\d+", path.name):
        try:
            os.close(os.open(path, os.O_RDWR))
            opened[str(path)] = "OK"
        except OSError as error:
            opened[str(path)] = errno.errorcode[error.errno or 0]
report = {
    "host": socket.gethostname(),
    "opened": opened,
    "gpus": os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or "",
    "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
}
print(json.dumps(report) + "\n", end="", flush=True)
time.sleep(float(sys.argv[1]))
