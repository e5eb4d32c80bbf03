"""Imports what TASK-019 lists, and says the versions."""

import sys
from importlib import import_module
from importlib.metadata import version
from shutil import which

import torch

MODULES = {
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "numpy": "numpy",
    "mpi4py": "mpi4py",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "nvitop": "nvitop",
    "memory_profiler": "memory-profiler",
    "psutil": "psutil",
    "IPython": "ipython",
    "jupyter_core": "jupyter-core",
    "matplotlib": "matplotlib",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "pytest": "pytest",
    "black": "black",
    "flake8": "flake8",
}
PROGRAMS = ("mpirun", "mpicc", "nvcc", "gcc", "cmake", "git", "gdb", "vim", "py-spy", "nvitop", "jupyter")

if sys.version_info[:2] != (3, 10):
    raise SystemExit(f"this is Python {sys.version}")
# The package's metadata says 2.4.1; the build says for which CUDA.
print("torch", torch.__version__, flush=True)
if torch.version.cuda != "12.1":
    raise SystemExit(f"PyTorch is for CUDA {torch.version.cuda}")
for module, package in MODULES.items():
    import_module(module)
    print(package, version(package), flush=True)
if missing := [program for program in PROGRAMS if which(program) is None]:
    raise SystemExit(f"not on PATH: {', '.join(missing)}")
