"""Small configuration files of a host, many at once.

pyinfra's files.put asks three facts for each file in both phases; on a slow virtual machine that is most of a
run that has nothing to do. Here one fact serves all files.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.text_files import TextFiles
from hpcstate.node.managed import Managed
from hpcstate.probe.text_files import PENDING_SUFFIX, TextFileState
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import write_file
from operations.util.difference import FileWritten

MANAGED = (
    Managed(
        "files",
        "names of the nodes, SSH with their host keys, firewall, time, users, tmpfiles, sysctl, drop-ins of "
        "units; settings and policy of Apptainer, public key, container-exec; seff, "
        "diagnose_training_failure, the path of modules; on the controller what slurmctld asks about jobs, "
        "rotation of its record, the message of the day",
        "/etc, /usr/bin/container-exec, /usr/local/bin, /opt/slurm",
        "content by digest, mode, owner; a mark where what has to follow did not succeed",
        "mended",
    ),
)


_EMPTY = hashlib.sha256(b"").hexdigest()
"""pyinfra takes an empty file for one that is not there (FileContents)."""


@dataclass(frozen=True)
class TextFile:
    """A file of ``owner``. ``content`` ends with a newline, ``mode`` is octal digits (``644``).

    ``then`` is a shell command that makes the change known (``systemctl reload ssh``); it runs after all
    files are written, once for equal commands, and again in the next run when it failed or was interrupted.
    """

    path: str
    content: str
    mode: str = "644"
    then: str = ""
    owner: str = "root:root"


@operation()
def put(files: Sequence[TextFile]) -> Generator[PyinfraCommand, None, None]:
    """Writes those of ``files`` that differ in content, mode or owner, then runs what has to follow."""
    states = host.get_fact(TextFiles, paths=tuple(file.path for file in files))
    changed = [file for file in files if _differs(file, states.get(file.path))]
    if not changed:
        host.noop(f"{len(files)} files are as they should be")
        return
    for file in changed:
        _show(file, states.get(file.path))
    for file in changed:
        mark = file.path + PENDING_SUFFIX if file.then else ""
        yield write_file(
            file.path,
            file.content,
            file.mode,
            owner="" if file.owner == TextFile.owner else file.owner,
            mark=mark,
        )
    for then in dict.fromkeys(file.then for file in changed if file.then):
        marks = " ".join(shlex.quote(file.path + PENDING_SUFFIX) for file in changed if file.then == then)
        yield StringCommand(f"{{ {then}; }} && rm -f {marks}")


@operation()
def absent(paths: Sequence[str]) -> Generator[PyinfraCommand, None, None]:
    """Removes those of ``paths`` that exist."""
    present = host.get_fact(TextFiles, paths=tuple(paths))
    if not present:
        host.noop("no file to remove")
        return
    difference.show_removed(present)
    yield StringCommand("rm -f", *(shlex.quote(path) for path in present))


def _show(file: TextFile, state: TextFileState | None) -> None:
    digest = state["sha256"] if state else ""
    if state is None or digest != hashlib.sha256(file.content.encode()).hexdigest():
        empty = "" if digest == _EMPTY else None
        difference.show([FileWritten(file.path, file.content, file.mode, empty)])
    else:
        now = {"mode": state["mode"], "owner": state["owner"]}
        difference.show_attributes(file.path, now, {"mode": file.mode, "owner": file.owner})


def _differs(file: TextFile, state: TextFileState | None) -> bool:
    if state is None or state["pending"]:
        return True
    wanted = (file.mode, file.owner, hashlib.sha256(file.content.encode()).hexdigest())
    return wanted != (state["mode"], state["owner"], state["sha256"])
