"""What a node runs, as the scheduler knows it: in the field ``Extra`` of the node. Pure.

`Extra` and not features, for Slurm 24.11: slurmctld keeps it in its node state file over restarts and
reconfigures, ahead of what slurm.conf says, and a slurmd without ``--extra`` leaves it as it is when it
registers (src/slurmctld/node_mgr.c, dump_node_state, load_all_node_state, validate_node_specs;
src/slurmd/slurmd/slurmd.c); `scontrol update` changes it at once, without a line in slurm.conf for each
digest. A job asks for it with ``--extra=KEY=VALUE``, where SchedulerParameters has ``extra_constraints``
(slurm.schedmd.com/extra_constraints.html). Active features need their available ones beside them, and what is
in slurm.conf of them comes back with each reconfigure.

It is an object of JSON. Ours are the keys `image`, `configuration` and `container.NAME`; others are left.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from hpcstate.digest import key_of
from hpcstate.model import Cluster, Node
from hpcstate.node import apptainer_files
from hpcstate.node.base_files import cluster_files
from hpcstate.probe.node_runs import NodeRuns
from hpcstate.slurm.conf import CONF_DIRECTORY, configuration

IMAGE = "image"
CONFIGURATION = "configuration"
CONTAINER = "container."
"""Before a container's name."""

SHORT = 12
"""How many digits of a digest are told: as many as in the names of the registry's files."""

MISSING = "none"
"""The digest of a file that is not there."""

Runs = Mapping[str, str]
"""Our keys, with what a node runs."""


@dataclass(frozen=True)
class RunsDifference:
    """A node runs ``running`` (empty: nothing, or it is not known), and would be ``desired``."""

    key: str
    running: str
    desired: str

    @property
    def remedy(self) -> Literal["roll start", "up"]:
        """The command of hpcstate that brings it into line."""
        return "roll start" if self.key == IMAGE else "up"

    def __str__(self) -> str:
        return f"{self.key} {self.running or 'unknown'} -> {self.desired}"


def files(cluster: Cluster, node: Node) -> dict[str, str]:
    """Path to content of the files that make up the configuration of ``node`` in a Slurm ``cluster``.

    gres.conf is none of them: it is made of what a node's hardware turns out to be.
    """
    slurm = {f"{CONF_DIRECTORY}/{name}": text for name, text in configuration(cluster).items()}
    return {**cluster_files(cluster, node), **apptainer_files.cluster_files(cluster.containers), **slurm}


def paths(cluster: Cluster, node: Node) -> tuple[str, ...]:
    """Where they are."""
    return tuple(sorted(files(cluster, node)))


def configuration_of(cluster: Cluster, node: Node) -> str:
    """The digest of the configuration that ``node`` is to have."""
    return _digest({path: sha256(text.encode()).hexdigest() for path, text in files(cluster, node).items()})


def running(found: NodeRuns, of: tuple[str, ...]) -> dict[str, str]:
    """What a node runs that was ``found`` to have this; its configuration are the files ``of``."""
    told = {CONFIGURATION: _digest({path: found["files"].get(path, MISSING) for path in of})}
    if found["image"]:
        told[IMAGE] = found["image"]
    return told | {f"{CONTAINER}{name}": digest for name, digest in found["containers"].items()}


def desired(image: str, configuration: str, containers: Mapping[str, str]) -> dict[str, str]:
    """What a node should run; an ``image`` that is not known (empty) is not asked for. ``containers`` are the
    digests by name."""
    told = {CONFIGURATION: configuration, **({IMAGE: image} if image else {})}
    return told | {f"{CONTAINER}{name}": digest[:SHORT] for name, digest in containers.items()}


def differences(runs: Runs, wanted: Runs) -> list[RunsDifference]:
    """Where a node that ``runs`` this is not as ``wanted``. Containers that nobody declared are none."""
    return [
        RunsDifference(key, runs.get(key, ""), value)
        for key, value in sorted(wanted.items(), key=lambda item: (item[0] != IMAGE, item))
        if runs.get(key) != value
    ]


def noted(extra: str) -> dict[str, str]:
    """What Slurm's ``extra`` of a node says that it runs; nothing where it is no object of JSON."""
    return {key: str(value) for key, value in (_parsed(extra) or {}).items() if _ours(key)}


def note(extra: str, runs: Runs) -> str | None:
    """The ``Extra`` that notes ``runs``, and leaves the keys of others in ``extra`` as they are. None where
    it is a text of somebody's and no object of JSON: it would be lost.
    """
    there = _parsed(extra)
    if there is None:
        return None
    others = {key: value for key, value in there.items() if not _ours(key)}
    return json.dumps({**others, **dict(sorted(runs.items()))})


def note_command(node: str, extra: str) -> str:
    """The command that tells slurmctld; for root or SlurmUser, on any node (scontrol(1), update node)."""
    return f"scontrol update nodename={shlex.quote(node)} extra={shlex.quote(extra)}"


def _ours(key: str) -> bool:
    return key in (IMAGE, CONFIGURATION) or key.startswith(CONTAINER)


def _parsed(extra: str) -> dict[str, object] | None:
    if not extra.strip():
        return {}
    try:
        found = json.loads(extra)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _digest(digests: Mapping[str, str]) -> str:
    return key_of(digests)[:SHORT]
