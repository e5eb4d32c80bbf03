"""``slurm_config``: partitions and parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcstate import hostlist
from hpcstate.model import Node, Partition, SlurmConfig
from hpcstate.model.cluster import is_derived
from hpcstate.schema import keys, leaf
from hpcstate.schema.leaf import LeafError, closest
from hpcstate.schema.section import NULL, Report, Section, read

GPU_PARTITION = "gpu"
"""A partition of this name holds the nodes with GPUs, when there are any; other names hold all nodes."""

MAX_HOSTS = 65_536
"""More than Slurm can have (MAX_NODES), few enough to be expanded."""


@dataclass(frozen=True)
class Workers:
    """The nodes that a partition may name, and those of them that have GPUs."""

    names: tuple[str, ...]
    gpu_names: tuple[str, ...]

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Workers:
        """The workers of a cluster, given all of its nodes."""
        workers = [node for node in nodes if node.role == "compute"]
        return cls(
            tuple(node.name for node in workers), tuple(node.name for node in workers if node.gres_types)
        )

    def members(self, partition: str) -> tuple[str, ...]:
        """The nodes of a partition that does not list its own."""
        return self.gpu_names if partition == GPU_PARTITION and self.gpu_names else self.names


def read_slurm(cluster: Section, workers: Workers | None) -> SlurmConfig:
    """``slurm_config`` of an hpc cluster.

    ``workers`` is None when the nodes could not be placed: then node names are not checked.
    """
    section = cluster.section("slurm_config", keys.SLURM_CONFIG)
    max_time = section.value("max_job_time", leaf.time_limit, Partition.max_time)
    known = workers or Workers((), ())
    partitions: list[Partition] = []
    for place, value in section.entries("partitions"):
        if isinstance(value, dict):
            entry = Section(section.report, place, value, keys.PARTITION)
            partition = _read_partition(entry, known, max_time, workers is not None)
        else:
            name = read(section.report, place, value, leaf.PARTITION_NAME, "")
            partition = Partition(name, known.members(name), False, max_time)
        if partition.name and partition.name in [other.name for other in partitions]:
            section.report.error(place, f"there are two partitions {partition.name!r}")
        partitions.append(partition)
    if section.raw("partitions") in NULL or section.raw("partitions") == []:
        names = (GPU_PARTITION, "debug") if known.gpu_names else ("debug",)
        partitions = [Partition(name, known.members(name), False, max_time) for name in names]
    chosen = _choose_default(section, partitions)
    if workers is not None:
        _warn_unreachable(section, chosen, workers)
    return SlurmConfig(chosen, _read_parameters(section))


def expand_hostlist(text: str) -> tuple[str, ...]:
    """The names of Slurm's host list ``text`` (``compute-[01-03,07]``), one bracket at most.

    Raises LeafError when it is none, or when it names more than MAX_HOSTS hosts: that is looked at before
    anything is expanded.
    """
    match = re.fullmatch(
        r"[a-z][a-z0-9-]{0,62}(?:\[(\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*)\])?", text, re.ASCII
    )
    if not match:
        raise LeafError("a node name or a host list like compute-[01-04]")
    bounds = [part.partition("-") for part in (match.group(1) or "").split(",") if part]
    sizes = [int(last or first) - int(first) + 1 for first, _, last in bounds]
    if any(size < 1 for size in sizes) or sum(sizes) > MAX_HOSTS:
        raise LeafError("a host list that counts up", f"at most {MAX_HOSTS} nodes")
    return hostlist.expand(text)


def _read_partition(entry: Section, workers: Workers, max_time: str, check_names: bool) -> Partition:
    name = entry.required("name", leaf.PARTITION_NAME, "")
    members: dict[str, None] = {}
    for place, value in entry.entries("nodes"):
        listed: tuple[str, ...] = read(entry.report, place, value, expand_hostlist, ())
        for node in listed:
            members[node] = None
            if check_names and node not in workers.names:
                hint = closest(node, workers.names) or _range_hint(workers)
                entry.report.error(place, f"the partition names the unknown node {node!r}", hint)
                break  # one report for a whole range
    return Partition(
        name=name,
        nodes=tuple(members) if "nodes" in entry else workers.members(name),
        default=entry.value("default", leaf.boolean, False),
        max_time=entry.value("max_time", leaf.time_limit, max_time),
    )


def _choose_default(section: Section, partitions: Sequence[Partition]) -> tuple[Partition, ...]:
    """The partitions with exactly one default: ``default_partition``, or the one marked, or the first."""
    names = tuple(partition.name for partition in partitions)
    marked = [partition.name for partition in partitions if partition.default]
    default = section.value("default_partition", leaf.PARTITION_NAME, "")
    if default and default not in names:
        section.report.error(
            section.at("default_partition"),
            f"there is no partition {default!r}",
            closest(default, names) or f"partitions here: {', '.join(names)}",
        )
    for name in marked:
        if name != (default or marked[0]):
            section.report.error(
                section.at("partitions"),
                f"{name!r} is marked as default, and so is {default or marked[0]!r}",
                "one partition is the default",
            )
    winner = default or next(iter(marked), names[0] if names else "")
    return tuple(replace(partition, default=partition.name == winner) for partition in partitions)


def _warn_unreachable(section: Section, partitions: Sequence[Partition], workers: Workers) -> None:
    covered = {node for partition in partitions for node in partition.nodes}
    outside = [name for name in workers.names if name not in covered]
    if outside:
        shown = ", ".join(outside[:5]) + (f" and {len(outside) - 5} more" if len(outside) > 5 else "")
        section.report.warning(section.at("partitions"), f"in no partition, so without jobs: {shown}")


def _read_parameters(section: Section) -> dict[str, str]:
    found = section.raw("parameters")
    if not isinstance(found, dict):
        if found not in NULL:
            section.section("parameters", keys.Keys("parameters", ()))  # reports what it is
        return {}
    return _check_parameters(section.report, section.at("parameters"), found)


def _check_parameters(report: Report, parent: str, found: dict[str, object]) -> dict[str, str]:
    parameters = {}
    for name, value in found.items():
        place = f"{parent}.{name}" if name.isidentifier() else parent
        text = read(report, place, value, leaf.line, None)
        if read(report, place, name, leaf.SLURM_PARAMETER, None) is None or text is None:
            continue
        if is_derived(name):
            report.error(place, f"{name} is made from the rest of this file", "leave it out")
        parameters[name] = text
    return parameters


def _range_hint(workers: Workers) -> str:
    if not workers.names:
        return "this cluster has no compute nodes"
    return f"the nodes are {workers.names[0]} to {workers.names[-1]}"
