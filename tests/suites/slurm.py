"""What Slurm says about the nodes, and what the programs of these suites report from inside a job."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.suite import CheckFailed
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import (
    SlurmNode,
    nodes_command,
    parse_nodes,
    parse_running_config,
    running_config_command,
)

_PART = "=== next part"

USABLE = frozenset(
    {"IDLE", "ALLOCATED", "MIXED", "COMPLETING", "PLANNED", "RESERVED", "CLOUD", "DYNAMIC_NORM"}
)
"""States and flags of a node that takes jobs (sinfo(1), NODE STATE CODES). Every other one is a fault."""


def slurm_nodes(live: Live) -> dict[str, SlurmNode]:
    """The nodes slurmctld knows, by name. Raises CheckFailed when it does not answer."""
    controller = live.cluster.controller.name
    nodes = parse_nodes(live.run(controller, nodes_command()).stdout)
    if not nodes:
        raise CheckFailed(
            f"slurmctld on {controller} answers",
            "it is silent",
            f"journalctl -u slurmctld on {controller} says why",
        )
    return nodes


@dataclass(frozen=True)
class ControllerView:
    """What slurmctld says: ``config`` is what it runs with, by key, with that of the cgroup plugin; ``gres``
    the GRES of each node as sinfo prints it; ``cfg_tres`` the CfgTRES of each (``cpu=2,gres/gpu=2``)."""

    config: Mapping[str, str]
    nodes: Mapping[str, SlurmNode]
    gres: Mapping[str, str]
    cfg_tres: Mapping[str, str]


@pytest.fixture(scope="session")
def controller_view(live: Live) -> ControllerView:
    """Slurm's own view of its configuration and nodes. Raises CheckFailed when slurmctld does not answer."""
    parts = (
        running_config_command(),
        nodes_command(),
        "timeout 30 sinfo --noheader --Node --format='%n %G' 2>/dev/null || :",
    )
    name = live.cluster.controller.name
    text = live.run(name, f"\necho '{_PART}'\n".join(parts)).stdout
    config, nodes, table = [*text.split(f"{_PART}\n"), "", ""][:3]
    known = parse_nodes(nodes)
    if not known:
        raise CheckFailed(
            f"slurmctld on {name} answers", "it is silent", f"journalctl -u slurmctld on {name} says why"
        )
    return ControllerView(
        config=parse_running_config(config),
        nodes=known,
        gres=dict(line.split(" ", 1) for line in table.splitlines() if " " in line),
        cfg_tres={node["name"]: node["tres"] for node in json.loads(nodes)["nodes"]},
    )


def slurmd_started(live: Live) -> dict[str, int]:
    """When the slurmd that registered last was started, in seconds since 1970 by its node's clock; nodes that
    have not registered, or a silent slurmctld, give none."""
    text = live.run(live.cluster.controller.name, nodes_command()).stdout
    nodes = json.loads(text)["nodes"] if text else []
    return {node["name"]: node["slurmd_start_time"]["number"] for node in nodes}


def usable(states: Collection[str]) -> bool:
    """Whether a node in these states takes jobs."""
    return bool(states) and USABLE.issuperset(states)


def gres_counts(text: str) -> dict[str, int]:
    """Slurm's GRES notation as counts: ``gpu:a:2(S:0),gpu:a:1`` is ``{"gpu:a": 3}``."""
    counts: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", text).split(","):
        name, _, count = item.rpartition(":")
        if name:
            counts[name] = counts.get(name, 0) + int(count)
    return counts


def reports(text: str) -> list[dict[str, Any]]:
    """The JSON lines that the programs of these suites print, out of what a job printed so far."""
    lines = (line.strip() for line in text.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs the Python program ``name`` beside this file inside a job. It travels in the
    command line, because nodes need not share a folder, and has the standard library only: looking for more
    (site) takes the interpreter longer than starting."""
    text = Path(__file__).with_name(name).read_text()
    return ("python3", "-E", "-S", "-c", text, *arguments)
