"""Runs inside a job: takes as many MiB as its argument says, every page of them, and reports it."""

import json
import socket
import sys

block = bytes([1]) * (int(sys.argv[1]) << 20)
print(json.dumps({"host": socket.gethostname(), "held_mb": len(block) >> 20}) + "\n", end="", flush=True)
