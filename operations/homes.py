"""People's homes: on the disk of each node, on the controller's data volume and mounted by the others, or in
a folder of the hypervisor that all mount."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.homes import Homes
from facts.slurm import SlurmDaemons, SlurmNodes
from hpcstate import programs
from hpcstate.node.data_volume import HOME, HOME_BIND, TOP, UNITS
from hpcstate.node.homes import AUTOMOUNT, EXPORTS, MOUNT, SERVER, SERVER_DROP_IN
from hpcstate.node.managed import Managed
from hpcstate.node.ssh import SSH_HOME, SSH_USER
from hpcstate.probe.homes import HomesState
from operations.data_volume import IDLE
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host
from operations.util.difference import FileWritten
from operations.util.drain import drain_and_wait

PROGRAM = Path(__file__).with_name("homes.sh")
NFS = Path(__file__).with_name("nfs.sh")
"""The functions have and without_portmapper."""

MANAGED = (
    Managed(
        "homes.way",
        f"the home of {SSH_USER}, the account that hpcstate logs in with, lies on the node's own disk",
        SSH_HOME,
        "getent passwd",
        "mended",
    ),
    Managed(
        "homes.served",
        "the controller serves the shared homes by NFSv4.2, to the nodes of the cluster; no portmapper",
        f"{EXPORTS}, nfs-server.service",
        "systemctl, /proc/fs/nfsd/versions, /var/lib/nfs/etab",
        "mended",
    ),
    Managed(
        "homes.mounted",
        "the other nodes have the shared homes, and mount them as somebody looks there",
        f"{HOME}, {AUTOMOUNT}",
        "/proc/self/mountinfo, systemctl",
        "mended",
    ),
)

NFS_SERVER = "nfs-server.service"
_PORTMAPPER = ("rpcbind.service", "rpcbind.socket")
_VERSIONS = ("-3", "+4.2")
"""What must be among what the server says: -3 is off, +4.2 is on."""

_FILES = (EXPORTS, SERVER, SERVER_DROP_IN)
Commands = Generator[PyinfraCommand, None, None]


@operation()
def way_in() -> Commands:
    """The account that hpcstate logs in with has its home on the node's own disk, outside of /home: sshd
    reads its keys there, and a login begins there, whatever becomes of the server of the homes."""
    found = _found()
    if found["way"] in ("", SSH_HOME):
        host.noop(f"the home of {SSH_USER} is {found['way'] or 'nowhere'}")
        return
    yield _command("way", SSH_USER, SSH_HOME)


@operation()
def served(clients: Sequence[str], places: Sequence[str] = (HOME,)) -> Commands:
    """The NFS server runs, speaks NFSv4.2 only, starts at boot, and exports ``places`` to ``clients``
    (addresses); its files are there. The portmapper, which only older versions need, is off."""
    found = _found()
    server = found["units"].get(NFS_SERVER)
    on = server is not None and server["active"] == "active" and server["enabled"] == "enabled"
    masked = all(found["units"][name]["load"] == "masked" for name in _PORTMAPPER if name in found["units"])
    speaks = all(version in found["versions"] for version in _VERSIONS)
    exported = all(sorted(found["exports"].get(place, ())) == sorted(clients) for place in places)
    if on and masked and speaks and exported:
        host.noop(f"{', '.join(places)} is served to {len(clients)} nodes")
        return
    yield _command("serve")


@operation()
def mounted(node: str, source: str, *, timeout_s: float, kind: str = "nfs4", force: bool = False) -> Commands:
    """``source`` (``192.168.150.10:/home``) is mounted at /home of ``node`` as somebody looks there; its
    units are there. What the node's own disk has at /home stays below. ``kind`` is what the kernel calls its
    file system: ``nfs4``, or ``virtiofs``, where ``source`` is the tag of a folder.

    Where slurmd runs, jobs may have files open there: ``node`` is drained, its jobs have ended, and other
    processes that use /home stop the host (neither with ``force``). The deploy of slurmd lifts the drain.
    Another mount at /home stops the host.
    """
    found = _found()
    if foreign := _foreign(found, ("autofs", *_OURS)) or _no_folder(found, kind, source):
        yield stop_host(foreign)
        return
    kinds = [mount["type"] for mount in found["mounts"]]
    right = _is_right(found, kind, source)
    if _is_on(found) and kinds[:1] == ["autofs"] and right:
        host.noop(f"{HOME} is mounted from {source} as somebody looks there")
        return
    covers = "autofs" not in kinds or not right
    if covers and not force:
        yield from _vacate(node, f"{HOME} comes from {_WHENCE[kind]}", timeout_s)
    yield _command("mount", source, idle=not force, **({} if kind == "nfs4" else {"kind": kind}))


@operation()
def left(node: str, source: str, kind: str, *, timeout_s: float, force: bool = False) -> Commands:
    """``node`` has no homes of ours that are of another kind than ``kind``: it is drained as in ``mounted``,
    and then nobody here writes to what the controller is about to move. ``source`` and ``kind`` are what it
    is to have next, as for ``mounted``: where it could not have them, nothing changes.
    """
    found = _found()
    if found["kind"] not in _OURS or found["kind"] == kind:
        host.noop(f"{HOME} stays of the kind that it is")
        return
    if why := _foreign(found, ("autofs", *_OURS)) or _no_folder(found, kind, source):
        yield stop_host(why)
        return
    if not force:
        yield from _vacate(node, f"{HOME} moves to {_WHENCE[kind]}", timeout_s)
    yield _command("unshare", idle=not force)


@operation()
def folder(source: str, units: Mapping[str, str], *, force: bool = False) -> Commands:
    """The controller's homes lie in the folder ``source`` (a tag) of the hypervisor, by ``units`` (path to
    content), and are not served. What is at /home moves there once, when the folder is empty; else what is in
    the folder counts. Other nodes have ``left`` them before. Processes that use /home stop the host (not with
    ``force``).
    """
    found = _found()
    bound = found["kind"] == "none"
    foreign = "" if bound else _foreign(found, ("autofs", "virtiofs"))
    if why := foreign or _no_folder(found, "virtiofs", source):
        yield stop_host(why)
        return
    kinds = [mount["type"] for mount in found["mounts"]]
    right = found["kind"] == "virtiofs" and _is_right(found, "virtiofs", source) and not found["files"]
    if right and _is_on(found) and kinds[:1] == ["autofs"]:
        host.noop(f"{HOME} is the folder {source} of the hypervisor")
        return
    difference.show(FileWritten(path, text) for path, text in units.items())
    texts = {
        "mount": units[f"{UNITS}/{MOUNT}"].rstrip("\n"),
        "automount": units[f"{UNITS}/{AUTOMOUNT}"].rstrip("\n"),
    }
    yield _command("folder", source, *found["files"], idle=not force, kind="virtiofs", **texts)


_OURS = ("nfs4", "virtiofs")
"""What is mounted at /home by units of ours."""

_WHENCE = {"nfs4": "the controller", "virtiofs": "a folder of the hypervisor"}


def _is_on(found: HomesState) -> bool:
    automount = found["units"].get(AUTOMOUNT)
    return automount is not None and automount["active"] == "active" and automount["enabled"] == "enabled"


def _is_right(found: HomesState, kind: str, source: str) -> bool:
    """Whether what is mounted, if anything is, is ``source``."""
    return all(
        (mount["type"], mount["source"]) == (kind, source)
        for mount in found["mounts"]
        if mount["type"] != "autofs"
    )


def _no_folder(found: HomesState, kind: str, source: str) -> str:
    """Why the folder ``source`` cannot be mounted, with the next step; empty where it can."""
    if kind != "virtiofs" or source in found["tags"]:
        return ""
    return (
        "the folder of the homes is not in this machine: it comes as the node goes off and on. `./hpc up "
        "FILE` does that and goes on, or `hpcstate stop FILE --node NAME` and `start`. Its homes stay"
    )


@operation()
def unshared(node: str = "", *, timeout_s: float, force: bool = False) -> Commands:
    """/home is that of the node's own disk: not mounted, not served; the units and files for that are gone.
    What the controller's data volume has stays there. ``node`` is a compute node: it is drained as in
    ``mounted``.
    """
    found = _found()
    if not found["files"] and not any(_is_there(found, name) for name in (MOUNT, AUTOMOUNT)):
        host.noop(f"{HOME} is that of this node")
        return
    if node and found["mounts"] and not force:
        yield from _vacate(node, f"{HOME} becomes the node's own", timeout_s)
    yield _command("unshare", *found["files"], idle=not force)
    if found["files"]:
        yield FunctionCommand(_say, (f"the homes that were shared stay in {TOP}/{HOME_BIND.name}",), {})


def _say(state: Any, host: Any, text: str) -> bool:
    """Says ``text`` in the name of the host. ``state`` and ``host`` are passed by pyinfra."""
    del state
    host.log(text)
    return True


def follow(action: Literal["exports", "restart"]) -> str:
    """The command that makes a running NFS server follow its files; one that does not run is left so."""
    return programs.command(IDLE, NFS, PROGRAM, arguments=(action,), home=HOME)


def _found() -> HomesState:
    units = (MOUNT, AUTOMOUNT, NFS_SERVER, *_PORTMAPPER)
    return host.get_fact(Homes, user=SSH_USER, home=HOME, units=units, files=_FILES)


def _is_there(found: HomesState, unit: str) -> bool:
    """Whether ``unit`` is one of ours, which are files: systemd has a unit for any mount."""
    state = found["units"].get(unit)
    return state is not None and state["load"] == "loaded" and state["enabled"] not in ("", "generated")


def _foreign(found: HomesState, ours: Sequence[str]) -> str:
    """What is mounted at /home that hpcstate did not do, with the next step; empty where nothing is."""
    other = next((mount for mount in found["mounts"] if mount["type"] not in ours), None)
    if other is None:
        return ""
    return (
        f"{HOME} is mounted from {other['source']} ({other['type']}), which hpcstate did not do: the shared "
        f"homes belong there. `umount {HOME}`, and take it out of /etc/fstab, or write storage.home: local"
    )


def _vacate(node: str, why: str, timeout_s: float) -> Iterable[PyinfraCommand]:
    if host.get_fact(SlurmDaemons)["slurmd"]["active"]:
        yield from drain_and_wait(node, host.get_fact(SlurmNodes).get(node), why, timeout_s)


def _command(*words: str, idle: bool = True, **more: str) -> StringCommand:
    files = (*((programs.REPLACE,) if "mount" in more else ()), IDLE, NFS, PROGRAM)
    text = programs.command(*files, arguments=words, home=HOME, idle="yes" if idle else "", **more)
    return StringCommand(text)
