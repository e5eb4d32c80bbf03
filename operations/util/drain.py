"""Drain, wait, resume: what the operations on slurmd share. A drain of ours has our prefix in its reason."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.slurm import SlurmJobs
from hpcstate.probe.slurm import SlurmNode
from hpcstate.slurm.change import REASON_PREFIX, WAITING
from operations.util.commands import fail

DRAIN_SECONDS = 3600
POLL_SECONDS = 5
_REASON_LENGTH = 120
_LESS = re.compile(
    r"Low RealMemory \(reported:\d+ < [\d.]+% of configured:(?P<memory>\d+)\)"
    r"|gres/(?P<gres>\w+) count reported lower than configured \(\d+ < (?P<count>\d+)\)"
)
"""slurmctld's reasons that tell what slurm.conf said (src/slurmctld/node_mgr.c, validate_node_specs;
src/interfaces/gres.c)."""


def wait_until_free(state: Any, host: Any, node: str, timeout_s: float) -> bool:
    """Waits until no job holds ``node``, at most ``timeout_s`` seconds, and says which jobs it waits for.

    Runs on this machine while the operation is executed; ``state`` and ``host`` are passed by pyinfra. False,
    which fails the host, when the time is over: the node stays drained and its files are untouched.
    """
    waited, told = 0.0, -1.0
    while jobs := host.get_fact(SlurmJobs, node=node):
        if waited >= timeout_s:
            return fail(
                state,
                host,
                f"jobs {listed(jobs)} still hold {node} after {timeout_s:.0f} s.\n"
                "The node stays drained; its Slurm was not changed. The same command again when they have "
                "ended, or one that waits longer: `./hpc up FILE --drain-seconds N`, pyinfra's `--data "
                "slurm_drain_seconds=N`; or end them: scontrol requeue, scancel.",
            )
        if told < 0 or waited - told >= 60:
            host.log(f"{WAITING} {listed(jobs)} on {node}, {waited:.0f} s of {timeout_s:.0f} s")
            told = waited
        pause = min(POLL_SECONDS, timeout_s - waited)
        gevent.sleep(pause)
        waited += max(pause, 1)
    return True


def drain_and_wait(
    node: str, known: SlurmNode | None, why: str, timeout_s: float
) -> Iterable[PyinfraCommand]:
    """``node``, which slurmctld knows as ``known``, is drained for ``why`` and holds no jobs. A drain that is
    there already stays as it is.
    """
    if known is not None and not is_drained(known):
        yield drain_command(node, why)
    yield FunctionCommand(wait_until_free, (node, timeout_s), {})


def drain_command(node: str, reason: str) -> StringCommand:
    """Drains ``node`` with our prefix before ``reason``."""
    return StringCommand(
        f"scontrol update nodename={shlex.quote(node)} state=drain reason={shlex.quote(our_reason(reason))}"
    )


def our_reason(reason: str) -> str:
    """``reason`` with our prefix, cut to a length that `sinfo -R` still shows."""
    text = REASON_PREFIX + reason.removeprefix(REASON_PREFIX)
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…"


def resume_ours(
    node: str, known: SlurmNode | None, otherwise: str, *, grew: bool = False
) -> Iterable[PyinfraCommand]:
    """Lifts our drain of ``node``, and one of Slurm's own that is outdated; says ``otherwise`` when there is
    none. ``grew`` says that slurmd ran with another gres.conf until now: what it had less of is there."""
    if known is None or not is_drained(known):
        host.noop(otherwise)
    elif (
        not known["reason"].startswith(REASON_PREFIX)
        and not is_outdated(known)
        and not (grew and not is_invalid(known) and _is_less_gres(known["reason"]))
    ):
        lift = f"scontrol update nodename={node} state=resume"
        why = f"as {known['reason_user']} wants it: {known['reason']}"
        host.noop(f"{node} stays drained, {why}. When that is over: {lift}")
    else:
        yield StringCommand(f"scontrol update nodename={shlex.quote(node)} state=resume")


def is_drained(node: SlurmNode) -> bool:
    """Whether ``node`` takes no new jobs because somebody, or Slurm, drained it."""
    return "DRAIN" in node["states"]


def is_outdated(node: SlurmNode) -> bool:
    """Whether slurmctld drained ``node`` because it had less than slurm.conf said, which says something else
    by now: then the drain is about a configuration that is gone. A node that is what slurm.conf still says,
    after it was less, may have something broken that came back: that is for a person to see.
    """
    if is_invalid(node) or not (found := _LESS.match(node["reason"])):
        return False
    if found["memory"]:
        return int(found["memory"]) != node["memory_mb"]
    counts = re.findall(rf"(?:^|,){re.escape(found['gres'])}:(?:[^:,(]+:)?(\d+)", node["gres"])
    return int(found["count"]) != sum(map(int, counts))


def _is_less_gres(reason: str) -> bool:
    found = _LESS.match(reason)
    return found is not None and bool(found["gres"])


def is_invalid(node: SlurmNode | None) -> bool:
    """Whether slurmctld refused what slurmd registered with: fewer CPUs, memory or GRES than slurm.conf says.

    It stays so until slurmd registers anew (slurm.conf(5), NODE CONFIGURATION; node_mgr.c).
    """
    return node is not None and "INVALID_REG" in node["states"]


def listed(jobs: Sequence[int]) -> str:
    """Job numbers as a person reads them."""
    return ", ".join(str(job) for job in jobs)
