"""Mounts that the cluster file gives a node: NFS servers of the site, folders of the hypervisor."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.mounts import Mounts
from hpcstate import programs
from hpcstate.node.data_volume import UNITS
from hpcstate.node.managed import Managed
from hpcstate.node.mounts import MARK, SECONDS, MountUnits
from hpcstate.probe.homes import HomeMount
from hpcstate.probe.mounts import MountsState
from operations.data_volume import IDLE
from operations.homes import NFS
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import fail, name_once
from operations.util.difference import FileWritten

PROGRAM = Path(__file__).with_name("mounts.sh")

MANAGED = (
    Managed(
        "mounts",
        "NFS servers and folders of the host (`storage.mounts`, `virtio_fs_mounts`): their units, and what "
        "is mounted there; one that the cluster file has no more goes. What is in use stays until it is not, "
        "and is named",
        "units of systemd with a line of ours, /proc/self/mountinfo",
        "digests of the units, systemctl, /proc/self/mountinfo",
        "mended",
    ),
    Managed(
        "mounts.foreign",
        "the same: something else that is mounted in their place",
        "/proc/self/mountinfo",
        "/proc/self/mountinfo",
        "named",
    ),
)


@operation()
def state(mounts: Sequence[MountUnits]) -> Generator[PyinfraCommand, None, None]:
    """``mounts`` are mounted as somebody looks there, at once and after a boot; those that were and are not
    among them are not.

    Nothing here looks at a mounted file. What is in use stays as it is and is named, and so is a server that
    does not answer: neither stops the deploy.
    """
    found = host.get_fact(
        Mounts,
        places=tuple(mount.place for mount in mounts),
        automounts=tuple(mount.automount_name for mount in mounts),
        mark=MARK,
        units=UNITS,
    )
    wanted = {mount.place for mount in mounts}
    gone = {
        file["place"]: name
        for name, file in found["files"].items()
        if name.endswith(".mount") and file["place"] not in wanted
    }
    difference.show(
        FileWritten(f"{UNITS}/{name}", text)
        for mount in mounts
        if not _foreign(found, mount)
        for name, text in _texts(mount).items()
        if not _has(found, name, text)
    )
    done = True
    for place, name in gone.items():
        done = False
        yield _command("remove", place, name)
    for mount in mounts:
        if foreign := _foreign(found, mount):
            name_once(host, foreign)
        elif action := _action(found, mount):
            done = False
            yield _command(action, mount.place, mount.mount_name, mount)
    if done:
        host.noop(f"{len(mounts)} mounts are as they should be")


def _action(found: MountsState, mount: MountUnits) -> str:
    """What brings ``mount`` in line; empty where it is."""
    right = all(_has(found, name, text) for name, text in _texts(mount).items())
    there = found["mounts"].get(mount.place, [])
    automount = found["units"].get(mount.automount_name)
    active = automount is not None and automount["active"] == "active"
    if (
        not right
        or not _is_as_wanted(there, mount)
        or not (active and there and there[0]["type"] == "autofs")
    ):
        return "set"
    return "" if automount is not None and automount["enabled"] == "enabled" else "enable"


def _texts(mount: MountUnits) -> dict[str, str]:
    """The units of ``mount`` by name."""
    return {mount.mount_name: mount.mount, mount.automount_name: mount.automount}


def _has(found: MountsState, name: str, text: str) -> bool:
    there = found["files"].get(name)
    return there is not None and there["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def _is_as_wanted(there: Sequence[HomeMount], mount: MountUnits) -> bool:
    """Whether what is mounted, if anything, is ``mount``, read-only or not as it is."""
    return all(
        each["type"] in mount.types
        and each["source"] == mount.source
        and ("ro" in each["options"]) == mount.read_only
        for each in there
        if each["type"] != "autofs"
    )


def _foreign(found: MountsState, mount: MountUnits) -> str:
    """What is mounted in the place of ``mount`` that hpcstate did not do, with the next step; empty where
    nothing is."""
    other = next((each for each in found["mounts"].get(mount.place, []) if each["type"] != "autofs"), None)
    if other is None or mount.mount_name in found["files"]:
        return ""
    return (
        f"{mount.place} is mounted from {other['source']} ({other['type']}), which hpcstate did not do: "
        f"{mount.source} belongs there. `umount {mount.place}`, take it out of /etc/fstab, and deploy again"
    )


def _command(action: str, place: str, name: str, mount: MountUnits | None = None) -> PyinfraCommand:
    texts = {}
    if mount is not None:
        nfs = "yes" if "nfs" in mount.types else ""
        texts = {"mount": mount.mount.rstrip("\n"), "automount": mount.automount.rstrip("\n"), "nfs": nfs}
    text = programs.command(
        programs.REPLACE,
        IDLE,
        NFS,
        PROGRAM,
        arguments=(action,),
        place=place,
        name=name,
        seconds=SECONDS,
        **texts,
    )
    return FunctionCommand(_run, (text,), {})


def _run(state: Any, host: Any, text: str) -> bool:
    """Runs the program ``text`` and names what it left. ``state`` and ``host`` are passed by pyinfra."""
    succeeded, output = host.run_shell_command(StringCommand(text), _sudo=True)
    for line in output.stdout.splitlines():
        if line.startswith("left "):
            name_once(host, line.removeprefix("left "))
    return True if succeeded else fail(state, host, output.stderr or "it could not be mounted")
