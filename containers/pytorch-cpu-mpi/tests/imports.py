"""Imports what the container promises, and says the versions."""

from importlib import import_module
from importlib.metadata import version
from shutil import which

MODULES = ("torch", "numpy", "mpi4py", "tensorboard", "wandb", "memory_profiler", "IPython", "pytest")
PROGRAMS = ("nvitop", "py-spy", "mpirun", "git")

for module in MODULES:
    import_module(module)
    print(module, version(module.replace("_", "-")), flush=True)
if missing := [program for program in PROGRAMS if which(program) is None]:
    raise SystemExit(f"not on PATH: {', '.join(missing)}")
