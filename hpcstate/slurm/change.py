"""The call of change.sh, which changes Slurm on a node from its check to its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hpcstate import programs
from hpcstate.slurm.conf import CONF_DIRECTORY

REASON_PREFIX = "hpcstate: "
"""A drain whose reason begins so is ours: a deploy may lift it. Any other is never lifted."""

WAITING = "waiting for jobs"
"""What an operation that waits says first, so that whoever follows it can tell a person at once."""

STATE = "/var/lib/hpcstate/slurm"

STAGED = f"{STATE}/staged"
"""New files, before they are checked and moved to Slurm's directory."""

APPLIED = f"{STATE}/applied"
"""A copy of the files that the running daemon was last started or reconfigured with. What differs from it is
still to be done: so an interrupted run is taken up, and a change by hand is seen."""

Act = Literal["", "start", "restart", "reconfigure", "reload"]
"""What makes the daemon read its files: ``start`` one that does not run, ``reconfigure`` for slurmctld and
every slurmd, ``reload`` for the slurmd of the host alone. The head of each step in the program says more."""


def change(
    unit: str,
    names: Sequence[str],
    staged: Sequence[str],
    act: Act,
    *,
    wait_s: int | None,
    enable: bool = False,
    node: str = "",
    gpus: int = 0,
) -> str:
    """The whole change on ``unit`` (``slurmd``): check, install, ``act``, wait, record.

    ``names`` are all the files that the daemon reads, ``staged`` those that differ. ``wait_s`` seconds
    slurmctld is waited for until it answers, or slurmd until it is registered with ``gpus`` GPUs; None does
    not wait. ``enable`` makes a running daemon start at boot. ``node`` is the NodeName of a slurmd: when the
    change fails, it stays drained with the reason.
    """
    return programs.command(
        programs.REPLACE,
        Path(__file__).with_name("change.sh"),
        arguments=names,
        unit=unit,
        staged="".join(f"/{name}" for name in staged) + "/",
        act=act,
        enable="yes" if enable else "",
        wait_s="" if wait_s is None else wait_s,
        node=node,
        gpus=gpus,
        prefix=REASON_PREFIX,
        conf=CONF_DIRECTORY,
        fresh=STAGED,
        applied=APPLIED,
    )
