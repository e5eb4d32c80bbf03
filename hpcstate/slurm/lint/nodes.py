"""The nodes, node sets and partitions of a slurm.conf: names that exist, counts that fit, known GRES."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from hpcstate.errors import Problem
from hpcstate.model.partition import minutes
from hpcstate.slurm.read import Record, Whole, is_broken, names, number

_ADDRESS_KEYS = {"nodeaddr": "NodeAddr", "nodehostname": "NodeHostname", "bcastaddr": "BcastAddr"}
_SHOWN = 5
_TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}|INFINITE|UNLIMITED")


def problems(whole: Whole) -> Iterator[Problem]:
    """What slurmctld makes of the node and partition lines; each rule names its function."""
    for record in whole.records.get("NodeName", ()):
        if record.name.lower() == "default":
            yield from _default_problems(record)
        else:
            yield from _node_problems(record)
    known, all_known = _known_nodes(whole)
    yield from _repeated_nodes(whole)
    yield from _gres_problems(whole)
    sets = {record.name for record in whole.named("NodeSet")}
    for record in whole.named("NodeSet"):
        if record.name in known:
            # _validate_conf_nodeset_vs_nodenames
            yield record.problem("NodeSet", "is the name of a node too: the daemons stop", "rename the set")
    seen: set[str] = set()
    for record in whole.named("PartitionName"):
        if record.name in seen:
            # src/slurmctld/read_config.c, _build_single_partitionline_info
            message = "is given twice: slurmctld stops"
            yield record.problem("PartitionName", message, "merge the two lines")
        seen.add(record.name)
        yield from _partition_problems(record)
        if whole.complete and all_known:
            yield from _unknown_nodes(record, known | sets)


def _default_problems(record: Record) -> Iterator[Problem]:
    """src/common/read_config.c, _parse_nodename."""
    for pair in record.statement.pairs[1:]:
        if pair.key.lower() in _ADDRESS_KEYS:
            yield record.problem(
                pair.key, "is not allowed on the DEFAULT line: the daemons stop", "remove it"
            )


def _node_problems(record: Record) -> Iterator[Problem]:
    if record.name.lower() == "all":
        message = "ALL is reserved: the daemons stop"
        yield record.problem("NodeName", message, "name the nodes")
        return
    if is_broken(record.name):
        message = "the brackets do not match: the daemons stop"
        yield record.problem("NodeName", message, "write it as compute-[01-04,07]")
        return
    expanded = names(record.name)
    for lower, key in _ADDRESS_KEYS.items():
        value = record.attributes.get(lower, "")
        given = names(value) if value and not is_broken(value) else None
        if expanded and given and len(given) not in (1, len(expanded)):
            # src/common/node_conf.c, expand_nodeline_info
            message = f"has {len(given)} names for {len(expanded)} nodes: the daemons stop"
            yield record.problem(key, message, "one for each node, or one for all")
    yield from _topology_problems(record)


def _topology_problems(record: Record) -> Iterator[Problem]:
    """src/common/read_config.c, _parse_nodename: what does not fit is logged as an error and changed."""
    given = {key: _count(record.attributes, key) for key in _COUNTS if key in record.attributes}
    cores, threads = given.get("corespersocket", 1), given.get("threadspercore", 1)
    boards, cpus = given.get("boards", 1), given.get("cpus", given.get("procs", 0))
    if "sockets" in given and "socketsperboard" in given:
        message = "is ignored, because SocketsPerBoard is set too"
        yield record.problem("Sockets", message, "keep one of them", "warning")
    if "socketsperboard" in given:
        sockets = boards * given["socketsperboard"]
    elif "sockets" in given:
        sockets = given["sockets"]
    else:
        fits = cpus >= cores * threads and cpus % (cores * threads) == 0
        sockets = cpus // (cores * threads) if fits else boards
    if cpus and cpus not in (sockets, sockets * cores, sockets * cores * threads):
        message = (
            f"{cpus} is not {sockets} sockets times {cores} cores times {threads} threads: Slurm logs an "
            f"error and takes {sockets * cores * threads}"
        )
        yield record.problem("CPUs", message, "slurmd -C on the node prints what it has", "warning")
    if number(record.attributes.get("corespeccount", ""), 0) >= sockets * cores:
        message = "leaves no core for jobs: Slurm logs an error and takes 1"
        yield record.problem("CoreSpecCount", message, severity="warning")
    reserved = number(record.attributes.get("memspeclimit", ""), 0)
    if reserved and reserved >= number(record.attributes.get("realmemory", ""), 1):
        message = "is not less than RealMemory: Slurm logs an error and takes 0"
        yield record.problem("MemSpecLimit", message, "set RealMemory", "warning")


def _known_nodes(whole: Whole) -> tuple[set[str], bool]:
    """The names of all nodes, and whether every line could be expanded."""
    expanded = [names(record.name) for record in whole.named("NodeName")]
    return {name for some in expanded if some for name in some}, all(some is not None for some in expanded)


def _repeated_nodes(whole: Whole) -> Iterator[Problem]:
    """src/common/read_config.c, _push_to_hashtbls: "Duplicated NodeName"."""
    seen: set[str] = set()
    for record in whole.named("NodeName"):
        own = names(record.name) or ()
        twice = [name for name, count in Counter(own).items() if count > 1 or name in seen]
        seen.update(own)
        if twice:
            message = f"{_list(twice)} given twice: the daemons stop"
            yield record.problem("NodeName", message, "each node is on one NodeName line")


def _gres_problems(whole: Whole) -> Iterator[Problem]:
    types = set(whole.values["grestypes"][0].split(",")) if "grestypes" in whole.values else set()
    for record in whole.named("NodeName"):
        typed: dict[str, set[bool]] = {}
        for word in re.split(r",(?![^(]*\))", record.attributes.get("gres", "")):
            name, *fields = word.partition("(")[0].split(":")
            if not name:
                continue
            if whole.complete and name not in types:
                # src/interfaces/gres.c, gres_name_filter
                message = f"{name} is not in GresTypes: Slurm takes it away, and jobs cannot ask for it"
                yield record.problem("Gres", message, f"write GresTypes={name}", "warning")
            typed.setdefault(name, set()).add(bool(fields) and not re.match("[0-9]|no_consume", fields[0]))
        for name, kinds in typed.items():
            if len(kinds) > 1:
                # src/interfaces/gres.c, _foreach_slurm_conf
                message = f"some {name} have a type and others do not: slurmd stops"
                yield record.problem("Gres", message, f"give all of them a type: {name}:type:count")


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
    yield from _default_time(record)
    yield from _billing_weights(record)


def _billing_weights(record: Record) -> Iterator[Problem]:
    """src/common/slurm_protocol_api.c, slurm_get_tres_weight_array, and _tres_weight_item."""
    for item in record.attributes.get("tresbillingweights", "").split(","):
        name, equals, weight = item.partition("=")
        if item and not (name and equals and re.fullmatch(r"[0-9]*\.?[0-9]+[KMGTPkmgtp]?", weight)):
            message = f"{item} is no weight of a TRES: slurmctld stops"
            yield record.problem("TRESBillingWeights", message, "write CPU=1,Mem=0.25G,GRES/gpu=8")


def _default_time(record: Record) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _build_single_partitionline_info."""
    default, longest = (record.attributes.get(key, "") for key in ("defaulttime", "maxtime"))
    if _TIME.fullmatch(default) and _TIME.fullmatch(longest) and minutes(default) > minutes(longest):
        message = (
            f"{default} is more than MaxTime={longest}: it is ignored, and a job that names none gets that"
        )
        yield record.problem("DefaultTime", message, "make it shorter", "warning")


def _unknown_nodes(record: Record, known: set[str]) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _build_part_bitmaps: "Invalid node names in partition"."""
    value = re.sub(r"\s+", ",", record.attributes.get("nodes", ""))
    if is_broken(value):
        yield record.problem("Nodes", "the brackets do not match: slurmctld stops", "close the bracket")
        return
    missing = [name for name in names(value) or () if name and name not in known and name.lower() != "all"]
    if missing:
        message = f"{_list(missing)} in no NodeName line: slurmctld stops"
        yield record.problem("Nodes", message, "add a NodeName line, or correct the name")


_COUNTS = ("boards", "corespersocket", "cpus", "procs", "sockets", "socketsperboard", "threadspercore")


def _count(attributes: Mapping[str, str], key: str) -> int:
    """A count of a node line; Slurm takes 1 for 0, and what is no number has a problem of its own."""
    return number(attributes.get(key, ""), 1) or 1


def _list(found: list[str]) -> str:
    """``a, b and 3 more are``."""
    shown, more = found[:_SHOWN], len(found) - _SHOWN
    return f"{', '.join(shown)}{f' and {more} more' if more > 0 else ''} {'is' if len(found) == 1 else 'are'}"
