"""``slurm_config``: partitions and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcstate.model import Node, Partition, SlurmConfig
from hpcstate.model.cluster import is_derived
from hpcstate.model.partition import minutes
from hpcstate.schema.keys import HpcKeys, SlurmConfigKeys
from hpcstate.schema.leaf import closest
from hpcstate.schema.partition_keys import OPTIONS, PartitionKeys
from hpcstate.schema.section import NULL, Section, read

GPU_PARTITION = "gpu"
"""A partition of this name holds the nodes with GPUs, when there are any; other names hold all nodes."""


_CONTAINING = frozenset(("contain", "x11", "runinjob"))
"""Values of PrologFlags that give each job a step for who logs in: Contain, and those that imply it
(slurm.conf(5)). pam_slurm_adopt looks for that step (hpcstate.node.base_files.PAM)."""


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


@dataclass(frozen=True)
class Times:
    """The limits of jobs in partitions without their own: the ``longest``, and the ``default`` of a job that
    names none."""

    longest: str
    default: str

    def partition(self, name: str, nodes: tuple[str, ...]) -> Partition:
        """The partition of which only the name is known."""
        return Partition(name, nodes, False, self.longest, self.default_below(self.longest))

    def default_below(self, longest: str) -> str:
        """The default, or ``longest`` where that is less."""
        return min(self.default, longest, key=minutes)


def read_slurm(cluster: Section, workers: Workers | None) -> SlurmConfig:
    """``slurm_config`` of an hpc cluster.

    ``workers`` is None when the nodes could not be placed: then node names are not checked.
    """
    section = cluster.section(HpcKeys.slurm_config)
    times = Times(
        section.value(SlurmConfigKeys.max_job_time), section.value(SlurmConfigKeys.default_job_time)
    )
    known = workers or Workers((), ())
    partitions: list[Partition] = []
    for place, value in section.entries(SlurmConfigKeys.partitions):
        if isinstance(value, dict):
            entry = Section(section.report, place, value, PartitionKeys)
            partition = _read_partition(entry, known, times, workers is not None)
        else:
            name = read(section.report, place, value, PartitionKeys.name.leaf, "")
            partition = times.partition(name, known.members(name))
        if partition.name and partition.name in [other.name for other in partitions]:
            section.report.error(place, f"there are two partitions {partition.name!r}")
        partitions.append(partition)
    if section.raw(SlurmConfigKeys.partitions) in (*NULL, []):
        names = (GPU_PARTITION, "debug") if known.gpu_names else ("debug",)
        partitions = [times.partition(name, known.members(name)) for name in names]
    chosen = _choose_default(section, partitions)
    if workers is not None:
        _warn_unreachable(section, chosen, workers)
    return SlurmConfig(chosen, _read_parameters(section))


def _read_partition(entry: Section, workers: Workers, times: Times, check_names: bool) -> Partition:
    name = entry.value(PartitionKeys.name)
    members: dict[str, None] = {}
    for place, listed in entry.items(PartitionKeys.nodes):
        for node in listed:
            members[node] = None
            if check_names and node not in workers.names:
                hint = closest(node, workers.names) or _range_hint(workers)
                entry.report.error(place, f"the partition names the unknown node {node!r}", hint)
                break  # one report for a whole range
    max_time = entry.value(PartitionKeys.max_time) or times.longest
    default_time = entry.value(PartitionKeys.default_time)
    if default_time and minutes(default_time) > minutes(max_time):
        entry.report.error(
            entry.at(entry.spelled(PartitionKeys.default_time)),
            f"{default_time} is more than the limit of the partition, {max_time}",
            "a job that names no time would get the limit: make one longer, or the other shorter",
        )
    options = ((row.name, entry.value(row)) for row in OPTIONS)
    return Partition(
        name=name,
        nodes=tuple(members) if PartitionKeys.nodes in entry else workers.members(name),
        default=entry.value(PartitionKeys.default),
        max_time=max_time,
        default_time=default_time or times.default_below(max_time),
        state=entry.value(PartitionKeys.State),
        options={key: value for key, value in options if value},
    )


def _choose_default(section: Section, partitions: Sequence[Partition]) -> tuple[Partition, ...]:
    """The partitions with exactly one default: ``default_partition``, or the one marked, or the first."""
    names = tuple(partition.name for partition in partitions)
    marked = [partition.name for partition in partitions if partition.default]
    default = section.value(SlurmConfigKeys.default_partition)
    if default and default not in names:
        section.report.error(
            section.at(SlurmConfigKeys.default_partition),
            f"there is no partition {default!r}",
            closest(default, names) or f"partitions here: {', '.join(names)}",
        )
    for name in marked:
        if name != (default or marked[0]):
            section.report.error(
                section.at(SlurmConfigKeys.partitions),
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
        section.report.warning(
            section.at(SlurmConfigKeys.partitions), f"in no partition, so without jobs: {shown}"
        )


def _read_parameters(section: Section) -> dict[str, str]:
    parameters = {}
    for place, name, text in section.pairs(SlurmConfigKeys.parameters):
        if is_derived(name):
            section.report.error(place, f"{name} is made from the rest of this file", "leave it out")
        flags = {flag.strip().lower() for flag in text.split(",")}
        if name.lower() == "prologflags" and not flags & _CONTAINING:
            section.report.error(
                place,
                "PrologFlags without Contain: nobody would get in by SSH where they have a job",
                f"write {name}: Contain,{text}",
            )
        parameters[name] = text
    return parameters


def _range_hint(workers: Workers) -> str:
    if not workers.names:
        return "this cluster has no compute nodes"
    return f"the nodes are {workers.names[0]} to {workers.names[-1]}"
