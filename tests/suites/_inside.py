"""Runs inside a container inside a job: reports what the task may do and what it sees of its host.

Arguments: a copy of `id` that belongs to root and has the setuid bit, and a folder that is the whole host.
HPCSTATE_OUTSIDE are the namespaces of the task before it entered the container, as `readlink` names them, and
HPCSTATE_SETUID what that copy of `id` said there.

Imports only what starts fast, as _look.py does.
"""
# ruff: noqa: PTH115, PTH123

import errno
import json
import os
import re
import sys

SETUID, HOST = sys.argv[1:3]
SECRETS = ("/etc/shadow", "/etc/munge/munge.key", "/root", "/etc/ssh/ssh_host_ed25519_key")


def text(path: str) -> str:
    """The content of a file, empty where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def opened(path: str, flags: int) -> str:
    """How opening a file goes: OK or the name of the error."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


def status(key: str) -> str:
    """A line of /proc/self/status (proc_pid_status(5))."""
    found = re.search(rf"(?m)^{key}:\s*(.*)$", text("/proc/self/status"))
    return found[1] if found else ""


def namespaces() -> "dict[str, str]":
    """The namespaces of this task, by kind (namespaces(7))."""
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return {kind: os.readlink(f"/proc/self/ns/{kind}").partition(":")[2] for kind in kinds}


with os.popen(f"{SETUID} -u 2>&1") as output:
    effective = output.read().strip()
mounts = [line.split(" - ")[0].split() for line in text("/proc/self/mountinfo").splitlines()]
report = {
    "host": os.uname().nodename,
    "container": os.environ.get("APPTAINER_NAME", ""),
    "user": os.getuid(),
    "capabilities": {kind: status(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")},
    "no_new_privileges": status("NoNewPrivs"),
    "uid_map": text("/proc/self/uid_map").split(),
    "setuid_inside": effective,
    "setuid_outside": os.environ.get("HPCSTATE_SETUID", ""),
    "namespaces": namespaces(),
    "outside": dict(word.split(":", 1) for word in os.environ.get("HPCSTATE_OUTSIDE", "").split()),
    # Mount points and their options; what the user bound there (HOST) is not looked into.
    "mounts": {
        mount[4]: mount[5].replace(",relatime", "")
        for mount in mounts
        if not (mount[4] + "/").startswith(f"{HOST}/")
    },
    "secrets": {path: opened(HOST + path, os.O_RDONLY) for path in SECRETS},
    "host_is_there": os.path.exists(f"{HOST}/etc/hostname"),  # noqa: PTH110
}
# srun passes lines on whole up to 1024 bytes; longer ones of two tasks may end up in each other.
print(json.dumps(report, separators=(",", ":")) + "\n", end="", flush=True)
