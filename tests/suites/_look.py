"""Runs inside a job: reports what the task may reach and what it is held to, and stays a while.

Arguments: the seconds to stay, and what to leave behind: with a name, a process of that name that has left
the task's session and its family, as a daemon does, and lives for a while.

Imports only what starts fast: under software emulation pathlib, socket or tempfile cost a second each time.
"""
# ruff: noqa: PTH110, PTH123, PTH208

import errno
import json
import os
import re
import sys
import time

MOUNT = "/sys/fs/cgroup"
LEFT_SECONDS = "120"


def text(path: str) -> str:
    """The content of a file, empty where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def opened(path: str, flags: int) -> str:
    """How opening a device goes. EACCES: its owner and mode refuse this user. EPERM: the kernel's device
    filter does, which is asked after them, or the device's driver."""
    try:
        os.close(os.open(path, flags, 0o600))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


def terminal() -> str:
    """How asking for a pair of terminals goes."""
    try:
        for end in os.openpty():
            os.close(end)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


def group_of(process: str) -> str:
    """The control group of a process, from the mount point: cgroup v2 has one line, 0::/path."""
    lines = text(f"/proc/{process}/cgroup").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def limit(name: str) -> "int | None":
    """The least of a limit from the task's group up to the root, in bytes; None for no limit."""
    folder, found = OWN, []
    while folder != MOUNT:
        value = text(f"{folder}/{name}").strip() or "max"
        if value != "max":
            found.append(int(value))
        folder = folder.rpartition("/")[0]
    return min(found, default=None)


def widened() -> "list[int]":
    """The CPUs that this task runs on once it has asked for all of the node."""
    try:  # noqa: SIM105 (contextlib is slow to import)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    except OSError:
        pass
    return sorted(os.sched_getaffinity(0))


def left_behind(name: str) -> "tuple[int, str]":
    """Start a daemon by forking twice, and return its number and control group."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        daemon = os.fork()
        if daemon:
            os.write(writer, str(daemon).encode())
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, 256)
        os.execvp("sleep", [name, LEFT_SECONDS])
    os.waitpid(child, 0)
    number = os.read(reader, 32).decode()
    return int(number), group_of(number)


def nvidia_smi() -> "list[str]":
    """The GPUs that NVIDIA's own tool sees, a line each; none where there is no such tool."""
    with os.popen("command -v nvidia-smi >/dev/null && timeout 20 nvidia-smi -L 2>&1") as output:
        return output.read().splitlines()


OWN = (MOUNT + group_of("self")).rstrip("/")
gpu_files = [f"/dev/{name}" for name in sorted(os.listdir("/dev")) if re.fullmatch(r"nvidia\d+", name)]
devices = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/fuse")
blocks = [f"/dev/{name}" for name in sorted(os.listdir("/sys/block"))]
given = sorted(os.sched_getaffinity(0))
number, group = left_behind(sys.argv[2]) if len(sys.argv) > 2 else (0, "")
report = {
    "host": os.uname().nodename,
    "job": os.environ.get("SLURM_JOB_ID", ""),
    "gpus": os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or "",
    "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    "gpu_files": {path: opened(path, os.O_RDWR) for path in gpu_files},
    "smi": nvidia_smi() if os.path.exists("/proc/driver/nvidia") else [],
    "open": {path: opened(path, os.O_RDWR) for path in devices}
    # A file without a name is gone when it is closed.
    | {"/dev/ptmx": terminal(), "/dev/shm": opened("/dev/shm", os.O_RDWR | os.O_TMPFILE)},
    "closed": {path: opened(path, os.O_RDONLY) for path in ("/dev/mem", *blocks) if os.path.exists(path)},
    "cgroup": group_of("self"),
    "is_member": str(os.getpid()) in text(f"{OWN}/cgroup.procs").split(),
    "memory_bytes": limit("memory.max"),
    "swap_bytes": limit("memory.swap.max"),
    "cpus_of_group": text(f"{OWN}/cpuset.cpus.effective").strip(),
    "cpus_of_node": os.cpu_count(),
    "cpus_of_job": int(os.environ.get("SLURM_CPUS_ON_NODE", "0")),
    "cpus_given": given,
    "cpus_after_widening": widened(),
    "left_behind": number,
    "left_behind_in": group,
}
# srun passes lines on whole up to 1024 bytes; longer ones of two tasks may end up in each other.
print(json.dumps(report, separators=(",", ":")) + "\n", end="", flush=True)
time.sleep(float(sys.argv[1]))
