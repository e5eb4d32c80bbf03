"""One deploy of containers for a whole run of pyinfra, which asks for it host by host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Lock

from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.registry.deploy import deploy
from hpcstate.registry.layout import Stored
from hpcstate.registry.source import LocalFile, built
from hpcstate.registry.transfer import SayOfNode

WITHOUT = "HPCSTATE_PLAN_WITHOUT"
"""The variable that names, separated by commas, containers that are declared and not built: `hpcstate plan`
looks at the rest without them."""

_shared: dict[str, Delivery] = {}
_one_reader = Lock()


def shared(cluster: Cluster) -> Delivery:
    """The one delivery of this process to ``cluster``: pyinfra reads the deploys for all hosts at once, and
    executes their files anew for each. Raises HpcstateError as :class:`Delivery` does.
    """
    with _one_reader:
        if cluster.name not in _shared:
            _shared[cluster.name] = Delivery(cluster)
        return _shared[cluster.name]


def _left_out() -> list[str]:
    return os.environ.get(WITHOUT, "").split(",")


class Delivery:
    """What the cluster file declares, onto the nodes of ``cluster``: done once, by the first that asks.

    pyinfra runs an operation on all hosts at the same time; the others wait for it and get their own outcome.
    Raises HpcstateError when a declared container has not been built.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sources: tuple[LocalFile, ...] = tuple(
            built(name) for name in cluster.containers.deploy if name not in _left_out()
        )
        self._lock = Lock()
        self._outcomes: dict[str, str] | None = None

    @property
    def wanted(self) -> tuple[Stored, ...]:
        """The declared containers, but for the time of their deploy."""
        return tuple(source.stored for source in self._sources)

    def to(self, node: str, serve: Sequence[str], say: SayOfNode) -> str:
        """Deliver to the nodes ``serve``, unless that was done, and tell why ``node`` has not got everything;
        empty when it has."""
        with self._lock:
            if self._outcomes is None:
                self._outcomes = self._all(serve, say)
        return self._outcomes.get(node, "it was not among the nodes that were served")

    def _all(self, serve: Sequence[str], say: SayOfNode) -> dict[str, str]:
        known = [node.name for node in self._cluster.nodes if node.name in serve]
        try:
            result = deploy(self._cluster, self._sources, say, serve=known)
        except HpcstateError as error:
            return dict.fromkeys(known, str(error))
        return {
            node.node: "\n".join(text for text in (node.message, node.hint) if text) for node in result.nodes
        }
