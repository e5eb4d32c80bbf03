"""The nodes of one deploy of containers: what is seen and done of each, and what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from hpcstate.errors import HpcstateError
from hpcstate.probe.registry import RegistryState
from hpcstate.registry.difference import Difference
from hpcstate.registry.layout import Stored

Outcome = Literal["changed", "unchanged", "failed"]


@dataclass(frozen=True)
class NodeResult:
    """What became of one node. ``received`` are files (below the registry) that were sent to it, ``changes``
    what else was put right, ``unknown`` what lies there and is in no catalog."""

    node: str
    outcome: Outcome
    seconds: float
    received: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class DeployResult:
    """A finished deploy. ``seconds`` is its duration."""

    cluster: str
    via: str
    containers: tuple[str, ...]
    nodes: tuple[NodeResult, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every node has what it should have."""
        return all(node.outcome != "failed" for node in self.nodes)


@dataclass
class ServedNode:
    """A node while it is being served. ``lost`` are files that it lacks and no node that answers has."""

    name: str
    began: float
    state: RegistryState | None = None
    room: int = 0
    found: Difference | None = None
    error: HpcstateError | None = None
    received: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return self.error is None and self.state is not None

    def has(self, one: Stored) -> bool:
        """Whether it has ``one``, whole."""
        there = self.state["files"].get(one.file) if self.state else None
        return one.file in self.received or (there is not None and there["sha256"] == one.digest)

    def result(self) -> NodeResult:
        """What has become of it."""
        seconds = self.seconds or time.monotonic() - self.began
        error, found = self.error, self.found
        changed = bool(self.received or self.changes)
        return NodeResult(
            node=self.name,
            outcome="failed" if error else "changed" if changed else "unchanged",
            seconds=round(seconds, 1),
            received=tuple(self.received),
            changes=tuple(self.changes),
            unknown=found.unknown if found else (),
            message=error.message if error else "",
            hint=error.hint if error else "",
        )
