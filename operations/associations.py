"""Who may use how much of a Slurm cluster: the accounts, users and QOS of its slurmdbd."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.associations import Associations
from hpcstate import programs
from hpcstate.node.managed import Managed
from hpcstate.slurm.accounting import CLIENT_CONF
from hpcstate.slurm.associations import RECORD, Step, Wanted, difference, record_text
from operations.util.arguments import operation
from operations.util.commands import name_once

PROGRAM = Path(__file__).with_name("associations.sh")

MANAGED = (
    Managed(
        "accounting.associations",
        "accounts, users and QOS of the cluster file, with their limits and shares; those that left the file "
        "go when no job needs them. Others, and limits that the file does not name, are named and left alone",
        f"slurmdbd; {RECORD} says which are ours",
        "`sacctmgr --json show qos`, `account`, `user`, `association`",
        "mended",
    ),
)

_SEPARATOR = "\x1f"


@operation()
def state(wanted: Wanted, ahead: bool = False) -> Generator[PyinfraCommand, None, None]:
    """The controller's slurmdbd has what is ``wanted``; what of ours is no longer wanted goes, unless jobs
    need it.

    ``ahead``: before slurmctld enforces it; nothing is taken away, and what is not known yet is left.
    """
    found = host.get_fact(Associations, **wanted.question(jobs=not ahead))
    if not wanted.things and not found["record"]:
        host.noop("the cluster file says nothing of accounts, users and QOS")
        return
    todo = difference(wanted, found, ahead=ahead)
    if found["answers"] and not ahead:
        for text in (*todo.named, *todo.held):
            name_once(host, text)
    record = todo.interim if ahead else todo.record
    if not todo.steps and (ahead or record == found["record"]):
        host.noop("accounts, users and QOS are as they should be")
        return
    steps: list[Step] = [("record", record_text(todo.interim)), *todo.steps]
    if record != todo.interim:
        steps.append(("record", record_text(record)))
    text = programs.command(programs.REPLACE, PROGRAM, client=CLIENT_CONF, record=RECORD)
    yield StringCommand(text, _stdin=said(steps))


def said(steps: Iterable[Step]) -> str:
    """``steps`` as associations.sh reads them."""
    return "".join(f"{_SEPARATOR.join(step)}\n" for step in steps)
