"""Changes that a running node cannot take: one node after the other goes off and on, without hurting a job.

Slurm has to know the smaller of two sizes at any moment: a node grows before slurm.conf says so, and shrinks
after, because one that reports less than slurm.conf promises is drained (slurm.conf(5), NODE CONFIGURATION).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.cluster import active, lifecycle
from hpcstate.cluster.leave import DRAIN_SECONDS
from hpcstate.errors import HpcstateError
from hpcstate.health.decide import PREFIX
from hpcstate.hypervisor.machine import (
    CONTRARY_WAY,
    MachineDifference,
    contrary,
    contrary_line,
    shrinks,
)
from hpcstate.hypervisor.observed import refuse_addresses, refuse_other_identity
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import SlurmNode, nodes_command, parse_nodes
from hpcstate.slurm.change import REASON_PREFIX
from hpcstate.terminal import Say

BACK_SECONDS = 120.0
"""How long a node may take from answering on SSH to being of use to Slurm."""

_POLL = 2.0
AWAY = frozenset({"DOWN", "NOT_RESPONDING", "POWERED_DOWN", "REBOOT_ISSUED", "UNKNOWN"})


@dataclass(frozen=True)
class Order:
    """The nodes to go off and on: those of ``before`` the configuration is deployed, those of ``after``
    it."""

    before: tuple[str, ...]
    after: tuple[str, ...]


def order(cluster: Cluster, differences: Sequence[MachineDifference]) -> Order:
    """When which nodes go off and on, the controller last.

    Raises HpcstateError for a node that would become another one, for one that runs and would have another
    address, for a disk that would shrink, and for a node of which one size grows while another shrinks: there
    is no order in which Slurm would not promise too much.
    """
    refuse_other_identity(cluster, differences)
    refuse_addresses(cluster, differences)
    if never := [each for each in differences if each.impact == "never"]:
        raise HpcstateError("; ".join(map(str, never)), where=cluster.name)
    both = contrary(differences)
    before: list[str] = []
    after: list[str] = []
    for node in sorted(cluster.nodes, key=lambda node: node is cluster.controller):
        own = [each for each in differences if each.what == node.name and each.impact == "power-cycle"]
        smaller = any(map(shrinks, own))
        if node.name in both:
            raise HpcstateError(
                contrary_line(node.name, both[node.name]), where=node.place, hint=CONTRARY_WAY
            )
        if own:
            (after if smaller and node is not cluster.controller else before).append(node.name)
    return Order(tuple(before), tuple(after))


def roll(cluster: Cluster, file: Path, names: Sequence[str], say: Say) -> None:
    """Each node of ``names`` in turn, none of which somebody has drained: drained by us, its jobs awaited,
    off, on as the file has it, and of use to Slurm again before the next one goes. Raises HpcstateError at
    the first that does not come back; the others are not touched.
    """
    refuse_drained(cluster, names)
    for number, name in enumerate(names, start=1):
        if number > 1:  # the jobs of the one before may have taken hours
            refuse_drained(cluster, [name])
        begun = time.monotonic()
        say(f"{name}: off and on, {number} of {len(names)}")
        lifecycle.stop(cluster, file, say, [name], jobs="drain", timeout_s=DRAIN_SECONDS)
        lifecycle.start(cluster, file, say, [name])
        wait_for_slurm(cluster, name, names[number:])
        active.gate(cluster, name, say)
        say(f"{name}: as the file has it after {time.monotonic() - begun:.0f} s")


def refuse_drained(cluster: Cluster, names: Sequence[str]) -> None:
    """Raises HpcstateError, with nothing touched, when somebody drained one of ``names``: they may be at
    it."""
    if error := drained(cluster, names, of_others(slurm_nodes(cluster))):
        raise error


def of_others(nodes: Mapping[str, SlurmNode]) -> dict[str, str]:
    """The nodes that somebody else drained, with the reason. One that its health check drained may go off and
    on: that may mend it, and the check lifts its drain."""
    return {
        name: node["reason"]
        for name, node in nodes.items()
        if "DRAIN" in node["states"] and not node["reason"].startswith((REASON_PREFIX, PREFIX))
    }


def drained(cluster: Cluster, names: Sequence[str], theirs: Mapping[str, str]) -> HpcstateError | None:
    """What stands in the way of ``names`` going off and on, where others drained some: ``theirs``."""
    here = {name: reason for name, reason in theirs.items() if name in names}
    if not here:
        return None
    said = "; ".join(f"{name} ({reason or 'no reason given'})" for name, reason in here.items())
    return HpcstateError(
        f"these nodes have to go off and on, and somebody drained them: {said}",
        where=cluster.name,
        hint=f"when that is over, on {cluster.controller.name}: sudo scontrol update "
        f"nodename={','.join(here)} state=resume; then `up`",
    )


def slurm_nodes(cluster: Cluster) -> dict[str, SlurmNode]:
    """The nodes as slurmctld has them; none where it does not answer, or is not there yet."""
    if cluster.kind != "hpc":
        return {}
    try:
        with Live(cluster) as live:
            answer = live.run(cluster.controller.name, nodes_command(), user="root", timeout=60, check=False)
            return parse_nodes(answer.stdout)
    except HpcstateError:
        return {}


def back_after(
    error: HpcstateError, names: str, back: Callable[[], None], untouched: str, cluster: Cluster, file: Path
) -> HpcstateError:
    """What to raise when ``names`` did not pass with new disks because of ``error``: goes ``back`` to the old
    ones. A way back that fails hides no cause. ``untouched`` says what did not change, empty or "; ...".
    """
    try:
        back()
    except HpcstateError as second:
        return HpcstateError(
            f"the image did not pass on {names}: {error.message}\n"
            f"and the way back to the old disks failed: {second.message}",
            where=second.where or cluster.name,
            hint=f"{second.hint + '; then ' if second.hint else ''}hpcstate roll abort {file}",
        )
    return HpcstateError(
        f"the image did not pass on {names}: the old disks are back{untouched}\n{error.message}",
        where=error.where or cluster.name,
        hint="mend the image, build it anew, then the same command again",
    )


def wait_for_slurm(cluster: Cluster, name: str, following: Sequence[str]) -> None:
    """Wait until slurmctld has heard of the node again; at once where it knows no such node, or is not there
    yet."""
    limit = time.monotonic() + BACK_SECONDS
    while (node := slurm_nodes(cluster).get(name)) is not None and AWAY & set(node["states"]):
        if time.monotonic() > limit:
            left = f"; {', '.join(following)} were not touched" if following else ""
            states = "+".join(node["states"])
            raise HpcstateError(
                f"{name} is on again, but Slurm has it as {states} ({node['reason']}){left}",
                where=cluster.name,
                hint=f"journalctl -u slurmd on {name} says why; the next `up` goes on from there",
            )
        time.sleep(_POLL)
