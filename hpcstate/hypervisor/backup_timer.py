"""The timer that backs a cluster up (``backup`` of the file): units of systemd's on this machine.

On this machine, and not on the controller: the keys that are needed to make the cluster anew are only here,
and an archive on the controller's own data volume would go with it. The service runs `hpcstate backup FILE
--scheduled` as who owns the keys; what is taken, where to and how it is encrypted it reads from the file.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.host.packages import sudo_allowed
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.hypervisor.mark import owner_of
from hpcstate.model import Cluster
from hpcstate.programs import command
from hpcstate.render import render
from hpcstate.run import run

_PROGRAM = Path(__file__).with_name("backup_timer.sh")
_SECONDS = 60.0


@dataclass(frozen=True)
class TimerUnit:
    """A timer as it is on this machine. ``owner`` and ``cluster`` say whose it is (empty where it carries no
    mark), ``digest`` is that of its texts, ``on`` says that it is active, and is so after a boot."""

    name: str
    owner: str
    cluster: str
    every: str
    digest: str
    on: bool


def parse(text: str) -> tuple[TimerUnit, ...]:
    """What ``backup_timer.sh look`` printed. A unit whose mark cannot be read is nobody's of ours."""
    found = []
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "timer" and len(words) >= 3:
            owner, cluster, every = words[3:] if len(words) == 6 else ("", "", "")
            found.append(TimerUnit(words[2], owner, cluster, every, words[1], words[0] == "on"))
    return tuple(found)


def unit_name(cluster: Cluster) -> str:
    """The units of ``cluster``, without their suffixes."""
    return f"hpcstate-backup-{cluster.name}"


def texts(cluster: Cluster, file: Path, owner: str, user: str) -> tuple[str, str]:
    """The timer and the service, which runs as ``user`` on the cluster file ``file``."""
    build = os.environ.get("HPCSTATE_BUILD")
    return render("libvirt/backup.timer.j2", cluster=cluster, owner=owner), render(
        "libvirt/backup.service.j2",
        cluster=cluster,
        user=user,
        root=_escaped(paths.ROOT),
        python=_escaped(sys.executable),
        file=_escaped(file.absolute()),
        environment=[f"HPCSTATE_BUILD={_escaped(paths.BUILD)}"] if build else [],
    )


def _escaped(path: Path | str) -> str:
    """As systemd reads it within double quotes (systemd.service(5), COMMAND LINES)."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


def own(cluster: Cluster, seen: Sequence[TimerUnit], owner: str) -> TimerUnit | None:
    """The timer that was made for ``cluster``, None without one."""
    ours = (unit for unit in seen if owner and (unit.owner, unit.cluster) == (owner, cluster.name))
    return next(ours, None)


def differences_of(cluster: Cluster, seen: Sequence[TimerUnit], owner: str) -> list[MachineDifference]:
    """Where this machine has another timer than the file says; pure."""
    there, wanted = own(cluster, seen, owner), cluster.backup.every if cluster.backup else ""
    found = "" if there is None else there.every if there.on else "off"
    if found == wanted:
        return []
    return [MachineDifference("this machine", "backup", found, wanted, "live")]


def look() -> tuple[TimerUnit, ...]:
    """The timers of this machine that back clusters up."""
    return parse(run(["sh", "-c", command(_PROGRAM, arguments=("look",), ROOT="")], timeout=_SECONDS).stdout)


def differences(cluster: Cluster) -> list[MachineDifference]:
    """Where this machine has another timer than the file says. libvirt's test driver has no cluster to back
    up."""
    if not cluster.uri.startswith("qemu"):
        return []
    return differences_of(cluster, look(), owner_of(cluster))


def bring(cluster: Cluster, file: Path) -> list[MachineDifference]:
    """Bring the timer to that of the cluster file ``file``. Returns what was otherwise.

    Raises HpcstateError without root's rights, and where a unit of that name is somebody else's.
    """
    if not cluster.uri.startswith("qemu"):
        return []
    owner, seen = owner_of(cluster), look()
    rows, there = differences_of(cluster, seen, owner), own(cluster, seen, owner)
    name = unit_name(cluster)
    if cluster.backup is None:
        if there is not None:
            _as_root("remove", there.name)
        return rows
    if there is None and any(unit.name == name for unit in seen):
        raise HpcstateError(
            f"this machine has a unit {name}.timer that was not made with the keys here",
            where=f".clusters.{cluster.kind}.backup",
            hint=f"if nobody needs it: systemctl disable --now {name}.timer, and remove its file",
        )
    written = texts(cluster, file, owner, _user(cluster))
    digest = hashlib.sha256("".join(written).encode()).hexdigest()
    if rows or there is None or there.digest != digest:
        _as_root("put", name, *written)
    return rows


def going(cluster: Cluster) -> tuple[str, ...]:
    """The names of the timers that were made for ``cluster``."""
    there = own(cluster, look() if cluster.uri.startswith("qemu") else (), owner_of(cluster))
    return (there.name,) if there else ()


def remove(names: Sequence[str]) -> list[str]:
    """Remove the timers of ``names``. Returns what was removed, in words. Archives stay."""
    for name in names:
        _as_root("remove", name)
    return [f"timer {name}" for name in names]


def _user(cluster: Cluster) -> str:
    """Who owns the cluster's keys: nobody else but root could read them."""
    return pwd.getpwuid(paths.ClusterPaths.of(cluster.name).secrets.stat().st_uid).pw_name


def _as_root(*arguments: str) -> None:
    words = ["sh", "-c", command(_PROGRAM, arguments=arguments, ROOT="")]
    if os.geteuid() == 0:
        run(words, timeout=_SECONDS)
    elif sudo_allowed():
        run(["sudo", "-n", *words], timeout=_SECONDS)
    else:
        raise HpcstateError(
            "timers of this machine are made by root, and this user is neither root nor allowed to use sudo",
            where="backup",
            hint="run the same command as root, or take the key out of the file",
        )
