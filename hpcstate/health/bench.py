"""What a node measures of itself, as one line of JSON: memory, disk, GPUs. ``light`` takes a minute, ``deep``
some.

It is started by a job of the active checks, or by hand on a node that has no jobs; the programs are built on
the node, with the compiler that people have there. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcstate.health import gpus
from hpcstate.health.processes import running_jobs
from hpcstate.health.run import read_config

SOURCE = Path(__file__).with_name("bench.c")
PRODUCT = Path(__file__).with_name("gpu_product.py")
SECONDS = {"light": 60, "deep": 600}
"""For each measurement."""

_STREAM_MIB = {"light": 64, "deep": 256}
_DISK_MIB = {"light": 128, "deep": 1024}
_DCGM = {"light": "1", "deep": "3"}
"""The level of `dcgmi diag -r`: seconds, or half an hour's third (DCGM user guide, Active Health Checks)."""

_SPARE = 64 * 1024 * 1024
"""Bytes of memory that a measurement leaves alone."""


def main(arguments: Sequence[str]) -> int:
    """``light``, ``deep``, or ``pair``, which becomes the MPI program. Exit codes: 0 it is measured (whatever
    came out), 2 it could not be, 3 there are jobs here."""
    what = arguments[0]
    folder = Path(tempfile.mkdtemp(prefix="hpcstate-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    if what == "pair":
        return _pair(folder)
    own = int(os.environ.get("SLURM_JOB_ID", "0"))
    if running_jobs() - {own}:
        print(json.dumps({"busy": True}))
        return 3
    words, _ = read_config()
    try:
        print(json.dumps(measure(what, folder, words), ensure_ascii=False))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _pair(folder: Path) -> int:
    """Build the program with MPI, and become it. What is built goes with the job's /tmp, or now."""
    built = folder / "bench"
    done = _run(("mpicc", "-O2", "-DWITH_MPI", "-o", str(built), str(SOURCE)), 60, silent=True)
    if "error" in done:
        print(json.dumps({"skipped": f"mpicc: {done['error']}"}))
        shutil.rmtree(folder, ignore_errors=True)
        return 2
    code = subprocess.run((str(built), "pair", "8"), stdin=subprocess.DEVNULL, check=False).returncode
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if code == 0 else 1


def measure(what: str, folder: Path, words: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The measurements by name: figures, or ``skipped`` or ``error`` with the reason."""
    built, seconds = folder / "bench", SECONDS[what]
    made = _run(("cc", "-O2", "-o", str(built), str(SOURCE)), 60, silent=True)
    found: dict[str, dict[str, Any]] = {}
    if "error" in made:
        found["memory"] = found["disk"] = {"skipped": f"cc: {made['error']}"}
    else:
        stream = min(_STREAM_MIB[what], _available() // 4 // (1024 * 1024))
        found["memory"] = _run((str(built), "stream", str(stream)), seconds)
        room = shutil.disk_usage(folder).free // 2 // (1024 * 1024)
        found["disk"] = _run(
            (str(built), "disk", str(folder / "file"), str(min(_DISK_MIB[what], room))), seconds
        )
    if gpus.on_the_bus() and Path("/proc/driver/nvidia/version").exists():
        found |= _gpus(what, words)
    return found


def _gpus(what: str, words: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A product of matrices on each GPU, compared; NCCL between them; DCGM's own diagnosis."""
    found: dict[str, dict[str, Any]] = {}
    container = words.get("gpu_container", "")
    if container:
        program = PRODUCT.read_text(encoding="utf-8")
        words_of = ("container-exec", container, "python3", "-c", program)
        found["gpu_product"] = _run((*words_of, "product"), SECONDS[what])
        if what == "deep":
            found["nccl"] = _run((*words_of, "nccl"), SECONDS[what])
    else:
        found["gpu_product"] = {"skipped": "the cluster has no container with CUDA (containers.deploy)"}
    if shutil.which("dcgmi"):
        done = _run(
            ("dcgmi", "diag", "-r", _DCGM[what]), SECONDS[what] + 1800 * (what == "deep"), silent=True
        )
        found["dcgm"] = {"wrong": 1, "why": done["error"]} if "error" in done else {"wrong": 0}
    return found


def _available() -> int:
    """Bytes of memory that this program may take: of the node, and of its control group."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition(":")[2]
    for folder in (
        Path("/sys/fs/cgroup") / group.lstrip("/"),
        *(Path("/sys/fs/cgroup") / group.lstrip("/")).parents,
    ):
        try:
            limit = (folder / "memory.max").read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            free = min(free, int(limit))
    return max(free - _SPARE, _SPARE)


def _run(words: Sequence[str], seconds: int, *, silent: bool = False) -> dict[str, Any]:
    """The line of JSON that a program printed; ``error`` with what it said where it failed."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it did not end in {seconds} s"}
    except OSError as error:
        return {"error": f"{error.strerror}"}
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [""]
        said = next((line for line in lines if "error" in line.lower()), lines[-1])
        return {"error": f"it ended with {done.returncode}: {said[:200]}"}
    if silent:
        return {}
    try:
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return {"error": "it printed no JSON"}
    return found if isinstance(found, dict) else {"error": "it printed no JSON"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
