"""Metrics of what no program on a node finds out: files for node exporter's textfile collector. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places


def static_metrics(
    cluster: Cluster, node: Node, not_after: int, others: Mapping[str, int] | None = None
) -> str:
    """What the deploy knows of a node and no program finds out: for node exporter's textfile collector. Its
    certificate ends ``not_after``, ``others`` (by their files) when it says: in seconds since 1970."""
    simulated, real = places.simulated_gpus(node), places.real_gpus(node)
    declared = len(node.gres_types)
    ends = {places.CERTIFICATE: not_after, **(others or {})}
    values = (
        *(
            ("certificate_not_after_timestamp_seconds", f"{{file={json.dumps(file)}}}", "when it ends", end)
            for file, end in ends.items()
        ),
        ("gpus_declared", "", "GPUs that the cluster file gives to this node", declared),
        ("gpus_simulated", "", "those of them that are simulated", simulated),
        ("gpus_real", "", "GPUs that the cluster file passes through to this node", real),
    )
    lines: list[str] = []
    for metric, labels, meaning, value in values:
        full = f"hpcstate_{metric}"
        # The format takes one line of each kind for a name.
        if (kind := f"# TYPE {full} gauge") not in lines:
            lines += [f"# HELP {full} {meaning}", kind]
        lines.append(f"{full}{labels} {value}")
    return "\n".join(lines) + "\n"


def backup_metrics(taken_s: int) -> str:
    """What node exporter tells of a backup that was taken at ``taken_s``, in seconds since 1970."""
    name = "hpcstate_backup_taken_timestamp_seconds"
    return f"# HELP {name} when the last backup was taken\n# TYPE {name} gauge\n{name} {taken_s}\n"
