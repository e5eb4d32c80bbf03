"""How much of the data volume each user may take."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.quotas import Quotas
from hpcstate import programs
from hpcstate.node.data_volume import DEVICE, TOP
from hpcstate.node.managed import Managed
from hpcstate.node.quotas import RECORD, SERVICE, boot_files, changes
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import name_once, write_file
from operations.util.difference import FileWritten

PROGRAM = Path(__file__).with_name("quotas.sh")

MANAGED = (
    Managed(
        "quotas",
        "how much of the data volume each user of the cluster file may take (`home_quota_gb`), and that it "
        "holds; limits that somebody set for others are left alone",
        f"quotas of users on the ext4 at {TOP}; {RECORD} says which are ours",
        "repquota, quotaon, dumpe2fs",
        "mended",
    ),
)


@operation()
def state(limits: Mapping[int, int]) -> Generator[PyinfraCommand, None, None]:
    """The users of ``limits`` (GiB by number) may take so much of the data volume and no more; those of ours
    that are not among them have no limit. A file system without the feature is named: it gets it at the next
    boot of this node.
    """
    files = boot_files()
    found = host.get_fact(Quotas, top=TOP, device=DEVICE, record=RECORD, files=list(files), unit=SERVICE)
    done = True
    digest = hashlib.sha256("".join(text for text, _ in files.values()).encode()).hexdigest()
    if limits and (found["boot"] != digest or not found["enabled"]):
        done = False
        difference.show(FileWritten(path, text, mode) for path, (text, mode) in files.items())
        for path, (text, mode) in files.items():
            yield write_file(path, text, mode)
        yield StringCommand(f"systemctl daemon-reload && systemctl enable --quiet {SERVICE}")
    if not limits and found["boot"]:
        done = False
        difference.show_removed(files)
        yield StringCommand(f"systemctl disable --quiet {SERVICE}; rm -f {' '.join(files)}")
        yield StringCommand("systemctl daemon-reload")
    if limits and not found["programs"]:
        done = False
        yield _command("install")
    if limits and found["feature"] == "no":
        name_once(
            host,
            f"no quotas yet: the file system of {TOP} was made without them, and gets them as this node goes "
            "off and on (hpcstate stop FILE --node NAME, then start); deploy again behind that",
        )
    elif todo := changes(limits, found) if limits or found["record"] else {}:
        done = False
        yield _command("set", *(f"{uid}={kib}" for uid, kib in todo.items()), on=bool(limits))
    elif limits and not found["on"]:
        done = False
        yield _command("set", on=True)
    if done:
        host.noop(f"{len(limits)} users have the quota that they should have")


def _command(*words: str, on: bool = False) -> StringCommand:
    text = programs.command(
        programs.REPLACE, PROGRAM, arguments=words, top=TOP, record=RECORD, on="yes" if on else ""
    )
    return StringCommand(text)
