"""Timers of systemd that hpcstate has on a host: what each starts, and that it is on."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.timers import Timers
from hpcstate.node.data_volume import UNITS
from hpcstate.node.managed import Managed
from hpcstate.node.timers import MARK, PROGRAMS, Timer
from hpcstate.probe.timers import TimerState
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import write_file
from operations.util.difference import FileWritten

MANAGED = (
    Managed(
        "timers",
        "what systemd starts again and again on the controller: the removal of scratch folders of jobs that "
        "have ended (`storage.scratch`), active checks (`health.active_every_h`); one that the cluster file "
        "has no more goes",
        f"{UNITS}/hpcstate-*.timer, with a line of ours, and their services; {PROGRAMS}",
        "digest and mode of the files, systemctl",
        "mended",
    ),
)


@operation()
def state(wanted: Sequence[Timer]) -> Generator[PyinfraCommand, None, None]:
    """``wanted`` are there and on, also after a boot; those of ours that are not among them are gone. A run
    that is under way goes on.
    """
    found = host.get_fact(Timers, mark=MARK, units=UNITS, programs_in=PROGRAMS)
    gone = [name for name in found if name not in {timer.name for timer in wanted}]
    for timer in wanted:
        if not _is_right(timer, found.get(timer.name)):
            difference.show(FileWritten(path, content, mode) for path, (content, mode) in timer.files.items())
    difference.show_removed(path for name in gone for path in _files(name))
    done = True
    for name in gone:
        done = False
        files = _files(name)
        yield StringCommand(f"systemctl disable --quiet --now {shlex.quote(name)}.timer")
        yield StringCommand("rm -f", *map(shlex.quote, files))
        yield StringCommand("systemctl daemon-reload")
    for timer in wanted:
        there = found.get(timer.name)
        right = _is_right(timer, there)
        if not right:
            for path, (content, mode) in timer.files.items():
                yield write_file(path, content, mode)
            yield StringCommand("systemctl daemon-reload")
        if not right or (there and (there["enabled"], there["active"]) != ("enabled", "active")):
            done = False
            yield StringCommand(f"systemctl enable --quiet {timer.unit}")
            # Of one that runs the times may have changed.
            yield StringCommand(f"systemctl restart {timer.unit}")
    if done:
        host.noop(f"{len(wanted)} timers are on")


def _files(name: str) -> tuple[str, ...]:
    return (f"{UNITS}/{name}.timer", f"{UNITS}/{name}.service", f"{PROGRAMS}/{name}")


def _is_right(timer: Timer, there: TimerState | None) -> bool:
    return there is not None and (there["sha256"], there["mode"]) == (timer.sha256, "755")
