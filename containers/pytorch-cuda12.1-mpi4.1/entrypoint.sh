#!/bin/sh
# apptainer run FILE.sif [COMMAND…]: runs the command; without one, says what is in here and starts a shell.
set -eu
[ $# -eq 0 ] || exec "$@"
python3 - <<'PYTHON'
import platform

import torch
from mpi4py import MPI

print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
print(MPI.Get_library_version().split(",")[0])
print(f"GPUs: {torch.cuda.device_count() if torch.cuda.is_available() else 'none here'}")
PYTHON
exec bash
