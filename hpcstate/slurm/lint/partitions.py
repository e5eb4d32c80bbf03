"""The partitions and node sets of a slurm.conf: nodes that exist, limits and weights that slurmctld takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.model.partition import minutes
from hpcstate.slurm.lint import tres
from hpcstate.slurm.lint.defaults import integer
from hpcstate.slurm.lint.nodes import known_nodes, listed
from hpcstate.slurm.read import Record, Whole, names

_TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}|INFINITE|UNLIMITED")


def problems(whole: Whole) -> Iterator[Problem]:
    """What slurmctld makes of the node sets and partitions; each rule names its function."""
    known, all_known = known_nodes(whole)
    sets = whole.named("NodeSet")
    for record in sets:
        if record.name in known:
            # src/common/read_config.c, _validate_conf_nodeset_vs_nodenames
            yield record.problem("NodeSet", "is the name of a node too: the daemons stop", "rename the set")
    seen: set[str] = set()
    for record in whole.named("PartitionName"):
        if record.name in seen:
            # src/slurmctld/read_config.c, _build_single_partitionline_info
            message = "is given twice: slurmctld stops"
            yield record.problem("PartitionName", message, "merge the two lines")
        seen.add(record.name)
        yield from _partition_problems(record)
        yield from tres.weight_problems(whole, record, "TRESBillingWeights")
        if whole.complete and all_known:
            yield from _unknown_nodes(record, known, sets)


def _partition_problems(record: Record) -> Iterator[Problem]:
    """src/common/read_config.c, _parse_partitionname."""
    for ignored, other in (
        ("DefMemPerCPU", "DefMemPerNode"),
        ("MaxMemPerCPU", "MaxMemPerNode"),
        ("DenyAccounts", "AllowAccounts"),
        ("DenyQos", "AllowQos"),
    ):
        both = ignored.lower() in record.attributes and other.lower() in record.attributes
        if both and record.attributes[other.lower()].lower() != "all":
            message = f"is ignored, because {other} is set too; Slurm logs an error"
            yield record.problem(ignored, message, "keep one of them", "warning")
    modes = record.attributes.get("preemptmode", "").lower().split(",")
    if len({"cancel", "requeue", "suspend", "on", "off", "cluster"} & set(modes)) > 1:
        message = "has several modes: the daemons log an error that names GANG, and go on with none"
        yield record.problem("PreemptMode", message, "keep one of them", "warning")
    if "gang" in modes:
        message = "GANG is of the whole cluster: it is ignored here, and the daemons log an error"
        yield record.problem("PreemptMode", message, "write it in PreemptMode= alone", "warning")
    shares = record.attributes.get("oversubscribe", record.attributes.get("shared", "")).lower()
    found = re.fullmatch("(yes|force):(.*)", shares)
    if found and integer(found[2]) < (2 if found[1] == "yes" else 1):
        message = f"{found[2]} jobs do not share: Slurm logs an error and takes NO"
        yield record.problem("OverSubscribe", message, "write YES:4 or FORCE:4", "warning")
    yield from _default_time(record)


def _default_time(record: Record) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _build_single_partitionline_info."""
    default, longest = (record.attributes.get(key, "") for key in ("defaulttime", "maxtime"))
    if _TIME.fullmatch(default) and _TIME.fullmatch(longest) and minutes(default) > minutes(longest):
        message = (
            f"{default} is more than MaxTime={longest}: it is ignored, and a job that names none gets that"
        )
        yield record.problem("DefaultTime", message, "make it shorter", "warning")


def _unknown_nodes(record: Record, known: set[str], sets: Sequence[Record]) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _build_part_bitmaps: "Invalid node names in partition"."""
    value = re.sub(r"\s", ",", record.attributes.get("nodes", ""), flags=re.ASCII)
    if value.lower() == "all":
        return
    if why := refusal(value):
        yield record.problem("Nodes", f"{why}: slurmctld stops", "write it as compute-[01-04,07]")
        return
    hosts = list(names(value) or ())
    used = _with_sets(hosts, known, sets)
    for line in used:
        if why := refusal(line.attributes.get("nodes", "")):
            yield line.problem("Nodes", f"{why}: slurmctld stops", "write it as compute-[01-04,07]")
    missing = list(dict.fromkeys(name for name in hosts if name not in known))
    if not missing:
        return
    hint = "add a NodeName line, or correct the name"
    later = next((line for line in sets if line.name in missing), None)
    if any(name.lower() == "all" for name in missing):
        hint = "ALL stands alone, or is left out"
    elif later:
        hint = f"write the line of NodeSet={later.name} after the one that names it"
    elif used and not set(missing) & set(names(value) or ()):
        hint = f"it is in NodeSet={used[-1].name}"
    yield record.problem("Nodes", f"{listed(missing)} in no NodeName line: slurmctld stops", hint)


def _with_sets(hosts: list[str], known: set[str], sets: Sequence[Record]) -> list[Record]:
    """Put the nodes of each node set in ``hosts`` in its place, in the order of their lines, so that a set
    can name those after it (src/slurmctld/read_config.c, nodespec_to_hostlist). The lines that were used.
    """
    used = []
    for line in sets:
        if line.name not in hosts:
            continue
        hosts.remove(line.name)
        used.append(line)
        nodes = line.attributes.get("nodes", "")
        hosts += sorted(known) if nodes.lower() == "all" else names(nodes) or ()
    return used
