"""The data volume of a controller: its file system, where it is mounted, and what lies on it."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.data_volume import DataVolume
from hpcstate import programs
from hpcstate.node.data_volume import DEVICE, FROM_FOLDER, HOME, LABEL, TOP, UNITS, Bind, unit
from hpcstate.node.managed import Managed
from hpcstate.probe.data_volume import DataVolumeState
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host
from operations.util.difference import FileWritten

PROGRAM = Path(__file__).with_name("data_volume.sh")
IDLE = Path(__file__).with_name("idle.sh")
"""The function demand_idle, which what moves or covers a folder needs."""

MANAGED = (
    Managed(
        "data_volume",
        "the data volume of the controller: file system, mounts, their units; slurmctld's state, the "
        "registry, the database and shared homes lie on it",
        f"{TOP}, /var/lib/slurm/slurmctld, /opt/containers, /var/lib/mysql, /home",
        "blkid, findmnt, digests of the units",
        "mended",
    ),
)

_SLACK = 4 << 20
"""Bytes that a file system may leave unused at the end of its disk: it has whole block groups."""


@operation()
def state(units: Mapping[str, str], binds: Sequence[Bind]) -> Generator[PyinfraCommand, None, None]:
    """The volume has a file system as large as it is, is mounted, and the folders of ``binds`` are at their
    places by ``units`` (name to content of the mount units). What lies at these places on the node's own disk
    moves to the volume, once.

    Only a blank disk is given a file system; a disk with another content stops the host, and so does one
    that is not there.
    """
    found = host.get_fact(DataVolume, places=(TOP, *(bind.place for bind in binds)), device=DEVICE)
    if why := _obstacle(found, binds):
        yield stop_host(why)
        return
    places = [unit(TOP), *(unit(bind.place) for bind in binds)]
    digests = {name: hashlib.sha256(units[name].encode()).hexdigest() for name in places}
    difference.show(
        FileWritten(f"{UNITS}/{name}", units[name])
        for name, digest in digests.items()
        if found["units"].get(name) != digest
    )
    done = True
    if not (_has(found, TOP, units, found["device"]) and _is_full(found)):
        done = False
        yield _command(units[unit(TOP)], "volume", unit(TOP))
    for bind in binds:
        if not _has(found, bind.place, units, f"{found['device']}[/{bind.name}]"):
            done = False
            words = [bind.name, bind.place, unit(bind.place)]
            words += [bind.service, *(["idle"] if bind.idle else [])] if bind.service or bind.idle else []
            yield _command(units[unit(bind.place)], "bind", *words)
    if done:
        host.noop("the data volume is mounted, and has what lies on it")


def _obstacle(found: DataVolumeState, binds: Sequence[Bind]) -> str:
    """Why nothing can be done here, with the next step; empty where something can."""
    if not found["device_bytes"]:
        return (
            "the cluster's data volume is not in this machine: it comes as the controller goes off and on. "
            "`./hpc up FILE` does that and goes on, or `hpcstate stop FILE --node NAME` and `start`. "
            "Nothing of Slurm was changed here"
        )
    if found["content"] not in ("", f"ext4 {LABEL}"):
        return (
            f"{found['device']} should be the cluster's data volume, and has a content that hpcstate did not "
            f"make ({found['content']}): it stays as it is. Where it is nothing to keep, "
            f"`wipefs --all {DEVICE}` on this node empties it"
        )
    for path, name in ((TOP, ""), *((bind.place, bind.name) for bind in binds)):
        wanted = f"{found['device']}[/{name}]" if name else found["device"]
        there = found["mounts"].get(path, wanted)
        if there != wanted and not (path == HOME and there in FROM_FOLDER):
            return (
                f"{path} is mounted from {found['mounts'][path]}, which hpcstate did not do: the data volume "
                f"belongs there. `umount {path}`, and take it out of /etc/fstab, then deploy again"
            )
    return ""


def _has(found: DataVolumeState, place: str, units: Mapping[str, str], source: str) -> bool:
    """Whether ``source`` is mounted at ``place``, by the unit that it should have, also at the next boot."""
    name = unit(place)
    digest = hashlib.sha256(units[name].encode()).hexdigest()
    return (
        found["mounts"].get(place) == source
        and found["units"].get(name) == digest
        and name in found["enabled"]
    )


def _is_full(found: DataVolumeState) -> bool:
    return found["device_bytes"] - found["filesystem_bytes"] < _SLACK


def _command(content: str, *words: str) -> StringCommand:
    text = programs.command(
        programs.REPLACE, IDLE, PROGRAM, arguments=words, device=DEVICE, label=LABEL, top=TOP
    )
    return StringCommand(text, _stdin=content)
