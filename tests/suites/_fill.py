"""Runs inside a job: takes as many MiB as its first argument says, every page of them, and reports it.

The second argument says where: ``heap`` is its own memory, ``shm`` a file of /dev/shm without a name, which
is gone with the process. Imports only what starts fast, as _look.py does.
"""

import json
import os
import sys

megabyte = bytes([1]) * (1 << 20)
wanted = int(sys.argv[1])
if sys.argv[2] == "heap":
    held = len(megabyte * wanted)
else:
    file = os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE, 0o600)
    held = sum(os.write(file, megabyte) for _ in range(wanted))
report = {"host": os.uname().nodename, "held_mb": held >> 20}
print(json.dumps(report) + "\n", end="", flush=True)
