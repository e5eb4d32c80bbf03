"""Reservations of a Slurm cluster, as its slurmctld has them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.reservations import Reservations
from hpcstate import programs
from hpcstate.model import Reservation
from hpcstate.node.managed import Managed
from hpcstate.slurm.reservations import difference
from operations.util.arguments import operation
from operations.util.commands import name_once, stop_host
from operations.util.difference import show_attributes, show_removed

PROGRAM = Path(__file__).with_name("reservations.sh")

MANAGED = (
    Managed(
        "slurm.reservations",
        "the reservations of the cluster file; those that left it go when no job needs them. One that was "
        "made by hand is named and left alone, also where it has a name of the file",
        "slurmctld's state; its comment says that a reservation is ours",
        "`scontrol --json show reservation`, `--oneliner`",
        "mended",
    ),
)

_SEPARATOR = "\x1f"


@operation()
def state(wanted: Sequence[Reservation]) -> Generator[PyinfraCommand, None, None]:
    """slurmctld has the reservations that are ``wanted``; those of ours that are no longer wanted go, unless
    jobs need them."""
    found = host.get_fact(Reservations)
    if not found["answers"]:
        if wanted:
            yield stop_host(
                "slurmctld says nothing of reservations: journalctl -u slurmctld, then deploy again"
            )
        else:
            host.noop("the cluster file has no reservations")
        return
    todo = difference(wanted, found)
    for text in (*todo.named, *todo.held):
        name_once(host, text)
    if not todo.steps:
        host.noop("reservations are as they should be")
        return
    for change in todo.changes:
        if change.after:
            words = dict.fromkeys((*change.before, *change.after))
            show_attributes(
                f"reservation {change.name}",
                {word: change.before.get(word, "nothing") for word in words},
                {word: change.after.get(word, "nothing") for word in words},
            )
    show_removed([f"reservation {change.name}" for change in todo.changes if not change.after])
    said = "".join(f"{_SEPARATOR.join(step)}\n" for step in todo.steps)
    yield StringCommand(programs.command(PROGRAM), _stdin=said)
