"""Nodes that Slurm gives no jobs because somebody, or Slurm itself, drained them: whose drain it is, since
when, and the next step. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from hpcstate.health.decide import ACTIVE, PREFIX, check_of
from hpcstate.probe.slurm import SlurmNode
from hpcstate.slurm.change import REASON_PREFIX

_SLURMS = " : Not responding"
"""What slurmctld writes behind the reason of a node that does not answer, with itself as who gave the
reason: who drained it is not known any more (seen with 24.11.5)."""


def left(
    slurm: Mapping[str, SlurmNode], controller: str, *, ours: bool = True, others: bool = True
) -> dict[str, str]:
    """Each drained node of ``slurm``, in their order, with a line about it; those that hpcstate drained only
    with ``ours``, the rest only with ``others``. ``controller`` is where scontrol is.
    """
    return {
        name: _line(name, node, controller)
        for name, node in slurm.items()
        if "DRAIN" in node["states"] and (ours if node["reason"].startswith(REASON_PREFIX) else others)
    }


def strange(slurm: Mapping[str, SlurmNode], names: Collection[str]) -> list[str]:
    """A line about each drained node of ``slurm`` that is none of ``names``, those that the file has."""
    lines = []
    for name, node in slurm.items():
        if name not in names and "DRAIN" in node["states"]:
            ours = node["reason"].startswith(REASON_PREFIX)
            way = (
                ": `hpcstate start FILE --remove` goes on with its removal; with the node in the file again "
                "`./hpc up FILE` lifts that"
            )
            lines.append(
                f"{name}, which the file does not have, is drained ({node['reason'] or 'no reason given'})"
                + (way if ours else "")
            )
    return lines


def refused(slurm: Mapping[str, SlurmNode]) -> dict[str, str]:
    """Each node of ``slurm`` that has less than slurm.conf says (INVALID_REG, scontrol(1)), with a line about
    it: such a node gets no job."""
    return {
        name: f"{name} gets no jobs: it has less than slurm.conf says ({node['reason'] or 'INVALID_REG'}); "
        "`./hpc up` makes the two agree"
        for name, node in slurm.items()
        if "INVALID_REG" in node["states"]
    }


def _line(name: str, node: SlurmNode, controller: str) -> str:
    since = ""
    if node["reason_since"]:
        since = f" since {datetime.fromtimestamp(node['reason_since']).astimezone():%Y-%m-%d %H:%M}"
    if node["reason"].startswith(REASON_PREFIX):
        return f"{name} is drained by hpcstate{since} ({node['reason']}): the next `./hpc up` lifts that"
    if node["reason"].startswith(PREFIX):
        passes = "when that passes" if not check_of(node["reason"]).startswith(ACTIVE) else "by `--active`"
        return (
            f"{name} is drained by its health check{since} ({node['reason']}): the same check lifts that, "
            f"{passes} (docs/health.md)"
        )
    if "INVALID_REG" in node["states"] and (said := refused({name: node})):
        return said[name]
    known = node["reason_user"] and not node["reason"].endswith(_SLURMS)
    by = f" by {node['reason_user']}" if known else ""
    return (
        f"{name} is drained{by}{since} ({node['reason'] or 'no reason given'}), and stays so: when that is "
        f"over, `sudo scontrol update nodename={name} state=resume` on {controller}"
    )
