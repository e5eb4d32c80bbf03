"""A file of what watches a node, and what has to follow where it changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MonitoringFile:
    """A file on a node: ``secret`` ones are for root and the group of the exporters. ``restarts`` are the
    units that have to be restarted where it changes, ``reloads`` those that read it again.
    ``judge`` are words that judge it on the node first; ``then`` is a command of another kind that
    follows."""

    path: str
    content: str
    secret: bool = False
    mode: str = ""
    restarts: tuple[str, ...] = ()
    reloads: tuple[str, ...] = ()
    judge: str = ""
    then: str = ""
