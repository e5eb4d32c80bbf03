"""People of an LDAP directory on a node: sssd, its configuration, and the homes that it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.directory import Directory
from facts.text_files import TextFiles
from hpcstate import programs
from hpcstate.node.directory import CONF, FILES, HOMES_SERVICE, HOMES_UNIT, RECORD, SOCKETS, WANTED
from hpcstate.node.managed import Managed
from hpcstate.probe.directory import DirectoryState
from hpcstate.probe.text_files import PENDING_SUFFIX, TextFileState
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host, write_file
from operations.util.difference import FileWritten

PROGRAM = Path(__file__).with_name("directory.sh")
SSSD = "sssd.service"

MANAGED = (
    Managed(
        "directory",
        "people of an LDAP directory (`directory`): sssd, on and by our files; what sshd asks for keys; who "
        "makes homes. Without the key all of it goes, what sssd knew of people too, and homes stay",
        f"{CONF}, {SSSD}, {HOMES_UNIT}; {RECORD} says that it is ours",
        "digest and mode of the files, systemctl",
        "mended",
        "a mirror and a directory",
    ),
)


@operation()
def state(files: Mapping[str, tuple[str, str]], early: bool = False) -> Generator[PyinfraCommand, None, None]:
    """sssd is on with ``files`` (path to content and mode); without any it is off, and nothing of it is left.

    ``early``: only on nodes that have it already. Stops the host where somebody else's sssd.conf lies.
    """
    found = host.get_fact(Directory, units=[SSSD, HOMES_UNIT, *SOCKETS], record=RECORD, conf=CONF)
    if not files:
        yield from _off(found, early=early)
        return
    if found["conf"] and not found["record"]:
        yield stop_host(
            f"{CONF} was written by somebody else, and is left alone: move it away, or take `directory` out "
            "of the cluster file"
        )
        return
    if early and not found["installed"]:
        host.noop("sssd comes with the packages of the file")
        return
    states = host.get_fact(TextFiles, paths=FILES)
    changed = [path for path, (text, mode) in files.items() if _differs(text, mode, states.get(path))]
    gone = [path for path in states if path not in files]
    homes = HOMES_SERVICE in files
    if not changed and not gone and _on(found, homes=homes):
        host.noop("people of the directory are known")
        return
    difference.show(FileWritten(path, *files[path]) for path in changed)
    difference.show_removed(gone)
    yield write_file(RECORD, "sssd of this node is by the cluster file\n")
    for path in changed:
        text, mode = files[path]
        yield write_file(path, text, mode, mark=path + PENDING_SUFFIX)
    if left := [path for path in gone if path != HOMES_SERVICE]:
        yield StringCommand("rm -f", *left)
    yield _command("on", homes=homes, restart=bool(changed or gone))


def _off(found: DirectoryState, *, early: bool) -> Generator[PyinfraCommand, None, None]:
    if not found["record"] or (early and not found["conf"]):
        host.noop("there is no directory of people")
        return
    present = host.get_fact(TextFiles, paths=FILES)
    difference.show_removed(present)
    yield _command("off" if early else "forget")


def _command(action: str, *, homes: bool = False, restart: bool = False) -> StringCommand:
    return StringCommand(
        programs.command(
            PROGRAM,
            arguments=[action],
            record=RECORD,
            homes_unit=HOMES_UNIT,
            homes_file=HOMES_SERVICE,
            wanted=WANTED,
            files=" ".join(FILES),
            sockets=" ".join(SOCKETS),
            homes="yes" if homes else "",
            pending=PENDING_SUFFIX,
            restart="yes" if restart else "",
        )
    )


def _on(found: DirectoryState, *, homes: bool) -> bool:
    """Whether what has to be on is on, at once and after a boot, and nothing that fails beside it."""
    units = found["units"]
    right = all(
        units.get(name) == {"enabled": "enabled", "active": "active"}
        for name in (SSSD, *((HOMES_UNIT,) if homes else ()))
    )
    return right and not any(units[name]["enabled"] == "enabled" for name in SOCKETS if name in units)


def _differs(text: str, mode: str, there: TextFileState | None) -> bool:
    if there is None or there["pending"]:
        return True
    wanted = (mode, "root:root", hashlib.sha256(text.encode()).hexdigest())
    return wanted != (there["mode"], there["owner"], there["sha256"])
