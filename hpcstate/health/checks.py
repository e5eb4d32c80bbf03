"""The checks of a node: each looks at what the node itself can see, and says what is wrong in words.

What decides is pure and takes texts; what looks is small. A check that cannot look raises: it counts as
broken, and a broken check drains nothing. No check waits for a server: paths on network file systems are not
touched. Standard library only: it runs on nodes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcstate.health import gpus, processes

PATHS = ("/", "/var", "/var/lib/slurm", "/var/log", "/var/spool", "/tmp", "/var/tmp", "/dev/shm")
"""What has to be writable and have room, wherever it is mounted from."""

_MEMORY = frozenset({"tmpfs", "ramfs"})
_REMOTE = re.compile(r"(nfs|cifs|smb|fuse|virtiofs|9p|lustre|beegfs|ceph|gpfs|afs|autofs)", re.I)


@dataclass(frozen=True)
class Wrong:
    """What is wrong, and whether the ``node`` or a ``user`` is the problem."""

    detail: str
    blame: str = "node"


Found = Iterator[Wrong]
Words = Mapping[str, Any]
"""What the deploy says of the node (hpcstate.health.files)."""


# file systems and mounts


@dataclass(frozen=True)
class Mounted:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5)). ``options`` are those of the mount and of the
    file system."""

    point: str
    kind: str
    source: str
    options: frozenset[str]


def mountinfo(text: str) -> list[Mounted]:
    """The mounts, in their order: a later one may lie over an earlier one."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words, more = left.split(" "), right.split(" ")
        if len(words) < 6 or len(more) < 3:
            raise ValueError(f"this is no line of mountinfo: {line!r}")
        options = frozenset((*words[5].split(","), *more[2].split(",")))
        found.append(Mounted(_plain(words[4]), more[0], _plain(more[1]), options))
    return found


def _plain(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word)


def mount_of(path: str, mounts: Sequence[Mounted]) -> Mounted | None:
    """The mount that ``path`` lies on."""
    return max(
        (each for each in mounts if path == each.point or path.startswith(each.point.rstrip("/") + "/")),
        key=lambda each: (len(each.point), mounts.index(each)),
        default=None,
    )


@dataclass(frozen=True)
class Room:
    """How full a file system is: per cent of what users may take, of blocks and of inodes (None where it
    has no number of them)."""

    blocks: int
    inodes: int | None


def full(path: str, mounted: Mounted, room: Room, blocks: int, inodes: int) -> Found:
    """What is wrong with the file system under ``path``."""
    # In memory it is what jobs left, not the node.
    blame = "user" if mounted.kind in _MEMORY else "node"
    if "ro" in mounted.options:
        yield Wrong(f"{mounted.point} ({path}) is read-only: the kernel's log says why")
    if room.blocks >= blocks:
        yield Wrong(f"{mounted.point} is {room.blocks} % full", blame)
    if room.inodes is not None and room.inodes >= inodes:
        yield Wrong(f"{mounted.point} has {room.inodes} % of its inodes taken", blame)


def _room(path: str) -> Room:
    seen = os.statvfs(path)
    # As df(1): what root keeps for itself counts neither as used nor as free.
    used, inodes = seen.f_blocks - seen.f_bfree, seen.f_files - seen.f_ffree
    whole = used + seen.f_bavail
    return Room(used * 100 // whole if whole else 0, inodes * 100 // seen.f_files if seen.f_files else None)


def filesystems(words: Words) -> Found:
    """Local file systems can be written, and have room and inodes."""
    mounts, seen = mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8")), set()
    for path in PATHS:
        mounted = mount_of(os.path.realpath(path), mounts)
        if mounted is None or mounted.point in seen or _REMOTE.match(mounted.kind):
            continue
        seen.add(mounted.point)
        yield from full(path, mounted, _room(path), words["full_percent"], words["inodes_percent"])


def not_mounted(points: Sequence[str], mounts: Sequence[Mounted]) -> Found:
    """Which of ``points`` is no mount. An automount that nobody has looked at is one: looking would wait for
    its server."""
    there = {each.point for each in mounts}
    for point in points:
        if point not in there:
            yield Wrong(f"{point} is not mounted")


def mounts(words: Words) -> Found:
    """What the cluster file mounts is mounted."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    yield from not_mounted(words["mounts"], mountinfo(text))


# memory, daemons, clock


def less_memory(meminfo: str, least_mb: int) -> Found:
    """Less memory than slurm.conf says: a module that the firmware has turned off, or another machine."""
    found = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.M)
    if not found:
        raise ValueError("/proc/meminfo has no MemTotal")
    if (there := int(found[1]) // 1024) < least_mb:
        yield Wrong(f"{there} MiB of memory, and slurm.conf says RealMemory={least_mb}")


def memory(words: Words) -> Found:
    """As much memory as slurm.conf says, without errors that could not be corrected (EDAC)."""
    yield from less_memory(Path("/proc/meminfo").read_text(encoding="utf-8"), words["memory_mb"])
    for count in sorted(Path("/sys/devices/system/edac/mc").glob("mc*/ue_count")):
        if errors := int(count.read_text() or 0):
            yield Wrong(f"{errors} uncorrectable memory errors of {count.parent.name} since the boot")


def not_running(shown: str, wanted: Sequence[str]) -> Found:
    """Units that do not run, by what ``systemctl show --property=Id,ActiveState`` printed."""
    states = dict(re.findall(r"Id=(\S+)\nActiveState=(\S+)", shown))
    for unit in wanted:
        state = states.get(unit)
        if state is None:
            raise ValueError(f"systemd says nothing of {unit}")
        if state not in ("active", "reloading", "activating"):
            yield Wrong(f"{unit} is {state}")


def daemons(words: Words) -> Found:
    """The daemons that jobs need run, and munge works."""
    shown = _ask("systemctl", "show", "--property=Id,ActiveState", *words["daemons"])
    yield from not_running(shown, words["daemons"])
    made = subprocess.run(
        ("munge", "--no-input"), stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
    read = subprocess.run(("unmunge",), input=made.stdout, capture_output=True, timeout=10, check=False)
    if made.returncode or read.returncode:
        said = (made.stderr or read.stderr or read.stdout).decode(errors="replace").strip().partition("\n")[0]
        yield Wrong(f"munge does not work: {said}")


def clock_off(tracking: str, most_s: float) -> Found:
    """How far the clock is off, by ``chronyc -c tracking``: the fifth column, in seconds (chronyc(1))."""
    columns = tracking.strip().split(",")
    if len(columns) < 14:
        raise ValueError(f"this is no answer of chronyc: {tracking!r}")
    if abs(off := float(columns[4])) > most_s:
        yield Wrong(f"the clock is off by {off:.1f} s")


def clocks(words: Words) -> Found:
    """The clock is right."""
    yield from clock_off(_ask("chronyc", "-n", "-c", "tracking"), words["clock_s"])


# containers and network


def container_runtime(words: Words) -> Found:
    """Containers can start: Apptainer, its helpers, /dev/fuse and user namespaces are there."""
    for program in words["container_programs"]:
        if shutil.which(program, path="/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin") is None:
            yield Wrong(f"{program} is not there")
    fuse = Path("/dev/fuse")
    if not fuse.is_char_device():
        yield Wrong("/dev/fuse is not there")
    elif fuse.stat().st_mode & 0o666 != 0o666:
        yield Wrong(f"/dev/fuse has the mode {fuse.stat().st_mode & 0o777:o}: users cannot open it")
    for key in ("user/max_user_namespaces", "kernel/unprivileged_userns_clone"):
        path = Path("/proc/sys") / key
        if path.exists() and path.read_text().strip() == "0":
            yield Wrong(f"{key.replace('/', '.')} is 0: containers need user namespaces")


def link(name: str, operstate: str, carrier: str) -> Found:
    """What is wrong with an interface, by its files in /sys/class/net."""
    if operstate not in ("up", "unknown") or carrier == "0":
        yield Wrong(f"the link of {name} is {operstate}{', without carrier' if carrier == '0' else ''}")


def network(words: Words) -> Found:
    """The controller is reached, and the link is up."""
    address, port = words["controller"]
    try:
        with socket.create_connection((address, port), timeout=5) as connected:
            mine = connected.getsockname()[0]
    except OSError as error:
        yield Wrong(f"slurmctld at {address}:{port} is not reached: {error.strerror or error}")
        mine = ""
    shown = _ask("ip", "-oneline", "-4", "address", "show")
    for name, of_it in re.findall(r"^\d+: (\S+)\s+inet (\S+?)/", shown, re.M):
        if name != "lo" and of_it in (mine, words["address"]):
            folder = Path("/sys/class/net") / name
            yield from link(name, (folder / "operstate").read_text().strip(), _carrier(folder))


def _carrier(folder: Path) -> str:
    try:
        return (folder / "carrier").read_text().strip()
    except OSError:
        return ""  # the kernel refuses it while the interface is down


# what jobs left, and GPUs


def leftover(words: Words) -> Found:
    """Jobs that have ended left nothing: processes, files of their own /tmp, shared memory."""
    for line in processes.remains(words, jobs=processes.running_jobs()):
        yield Wrong(line, "user")


def gpu_findings(words: Words) -> Found:
    """No GPU has an error of its own."""
    for what, address in gpus.errors(words["node"], _shell):
        yield Wrong(f"{address}: {what}" if address else what)
    if (least := words["gpus"]) and (count := gpus.on_the_bus()) < least:
        yield Wrong(f"{count} NVIDIA GPUs on the bus, and the cluster file has {least}")


def _ask(*words: str) -> str:
    """What a program printed; raises CalledProcessError where it failed."""
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, check=True
    ).stdout


def _shell(command: str) -> str:
    return subprocess.run(
        ("sh", "-c", command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


CHECKS: Mapping[str, Callable[[Words], Found]] = {
    check.__name__: check
    for check in (
        gpu_findings,
        filesystems,
        mounts,
        memory,
        daemons,
        clocks,
        container_runtime,
        network,
        leftover,
    )
}
"""The checks by the names of the declared list (hpcstate.model.health)."""
