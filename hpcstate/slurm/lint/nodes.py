"""The nodes of a slurm.conf: names, addresses and ports that Slurm takes, counts that fit, known GRES."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.read import Record, Whole, names, number

_ADDRESS_KEYS = {"nodeaddr": "NodeAddr", "nodehostname": "NodeHostname", "bcastaddr": "BcastAddr"}
_SHOWN = 5


def problems(whole: Whole) -> Iterator[Problem]:
    """What slurmctld makes of the node lines; each rule names its function."""
    for record in whole.records.get("NodeName", ()):
        if record.name.lower() == "default":
            yield from _default_problems(record)
        else:
            yield from _node_problems(record)
    yield from _repeated_nodes(whole)
    yield from _too_many(whole)
    yield from _gres_problems(whole)
    for record in whole.named("DownNodes"):
        yield from _down_nodes(record, whole)


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
    if not record.name.strip(" \t,"):
        # src/common/node_conf.c, expand_nodeline_info
        yield record.problem("NodeName", "is empty: the daemons stop", "name the nodes")
        return
    if why := refusal(record.name):
        message = f"{why}: the daemons stop"
        yield record.problem("NodeName", message, "write it as compute-[01-04,07]")
        return
    expanded = names(record.name)
    for lower, key in _ADDRESS_KEYS.items():
        if lower in record.attributes:
            yield from _address_problems(record, key, record.attributes[lower], expanded)
    yield from _port_problems(record, expanded)
    yield from _topology_problems(record)


def _address_problems(
    record: Record, key: str, value: str, expanded: Sequence[str] | None
) -> Iterator[Problem]:
    """src/common/node_conf.c, expand_nodeline_info."""
    if why := refusal(value):
        yield record.problem(key, f"{why}: the daemons stop", "write it as node[1-4].example.org")
        return
    given = names(value)
    if expanded is not None and given is not None and len(given) not in (1, len(expanded)):
        message = f"has {len(given)} names for {len(expanded)} nodes: the daemons stop"
        yield record.problem(key, message, "one for each node, or one for all")


def _port_problems(record: Record, expanded: Sequence[str] | None) -> Iterator[Problem]:
    """src/common/node_conf.c, expand_nodeline_info: brackets are put around a range or list without."""
    value = record.attributes.get("port", "")
    listed = f"[{value}]" if value[:1] not in ("[", "") and re.search("[-,]", value) else value
    if why := refusal(listed):
        yield record.problem("Port", f"{why}: the daemons stop", "write Port=[17001-17004]")
        return
    ports = names(listed) or ()
    wrong = next((port for port in ports if not 0 < _leading_number(port) < 2**16), None)
    if wrong is not None:
        yield record.problem("Port", f"{wrong} is no port: the daemons stop", "ports are 1 to 65535")
    elif expanded is not None and len(ports) > 1 and len(ports) != len(expanded):
        message = f"has {len(ports)} ports for {len(expanded)} nodes: the daemons stop"
        yield record.problem("Port", message, "one for each node, or one for all")


def _leading_number(text: str) -> int:
    """What atoi(3) makes of ``text``."""
    found = re.match(r"\s*\+?([0-9]{1,18})", text)
    return int(found[1]) if found else 0


def _down_nodes(record: Record, whole: Whole) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _handle_downnodes_line: all of it is only logged."""
    if why := refusal(record.name):
        yield record.problem("DownNodes", f"{why}: Slurm logs an error and ignores the line", "", "warning")
        return
    known, all_known = known_nodes(whole)
    missing = [name for name in names(record.name) or () if name not in known]
    if missing and all_known and whole.complete:
        message = f"{listed(missing)} in no NodeName line: Slurm logs an error"
        yield record.problem("DownNodes", message, "correct the name", "warning")


def _too_many(whole: Whole) -> Iterator[Problem]:
    """src/common/node_conf.c, add_node_record: MaxNodeCount is the size of the table."""
    limit = number(whole.value("MaxNodeCount"), 2**32)
    known, all_known = known_nodes(whole)
    if all_known and 0 < limit < len(known):
        message = f"is {limit}, and the file has {len(known)} nodes: slurmctld stops"
        yield whole.problem("MaxNodeCount", message, "make it larger, or leave it out")


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
    if "socketsperboard" not in given and boards > sockets:
        message = f"is more than the sockets ({sockets}): Slurm logs an error and takes 1"
        yield record.problem("Boards", message, "slurmd -C on the node prints what it has", "warning")
    if number(record.attributes.get("corespeccount", ""), 0) >= sockets * cores:
        message = "leaves no core for jobs: Slurm logs an error and takes 1"
        yield record.problem("CoreSpecCount", message, severity="warning")
    listed = record.attributes.get("cpuspeclist", "")
    if listed and number(record.attributes.get("corespeccount", ""), 0):
        message = "is taken as 0, because CPUSpecList is set too; Slurm logs an error"
        yield record.problem("CoreSpecCount", message, "keep one of them", "warning")
    beyond = [text for text in re.findall("[0-9]{1,9}", listed) if int(text) >= max(cpus, 1)]
    if cpus and beyond:
        message = f"names CPU {beyond[0]}, and the node has 0-{cpus - 1}: Slurm logs an error and ignores it"
        yield record.problem("CPUSpecList", message, "correct the numbers", "warning")
    reserved = number(record.attributes.get("memspeclimit", ""), 0)
    if reserved and reserved >= number(record.attributes.get("realmemory", ""), 1):
        message = "is not less than RealMemory: Slurm logs an error and takes 0"
        yield record.problem("MemSpecLimit", message, "set RealMemory", "warning")


def known_nodes(whole: Whole) -> tuple[set[str], bool]:
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
            message = f"{listed(twice)} given twice: the daemons stop"
            yield record.problem("NodeName", message, "each node is on one NodeName line")


def _gres_problems(whole: Whole) -> Iterator[Problem]:
    types = set(whole.values["grestypes"][0].split(",")) if "grestypes" in whole.values else set()
    for record in whole.named("NodeName"):
        typed: dict[str, set[bool]] = {}
        for word in re.split(r",(?![^(]*\))", record.attributes.get("gres", "")):
            name, *fields = word.partition("(")[0].split(":")
            if not name and word:
                # src/interfaces/gres.c, gres_name_filter
                message = f'"{word}" is no GRES: slurmctld logs an error and ignores it'
                yield record.problem("Gres", message, "leave Gres out where there is none", "warning")
            if not name:
                continue
            if whole.complete and name not in types:
                # src/interfaces/gres.c, gres_name_filter
                message = f"{name} is not in GresTypes: Slurm takes it away, and jobs cannot ask for it"
                yield record.problem("Gres", message, f"write GresTypes={name}", "warning")
            typed.setdefault(name, set()).add(bool(fields) and not re.match("[0-9]|no_consume", fields[0]))
        if number(record.attributes.get("restrictedcorespergpu", ""), 0) and "gpu" not in typed:
            # seen with slurmctld 24.11.5, which ends when such a node registers
            message = "is set, and the node has no gpu in Gres: slurmctld stops when it registers"
            yield record.problem("RestrictedCoresPerGPU", message, "remove it")
        for name, kinds in typed.items():
            if len(kinds) > 1:
                # src/interfaces/gres.c, _foreach_slurm_conf
                message = f"some {name} have a type and others do not: slurmd stops"
                yield record.problem("Gres", message, f"give all of them a type: {name}:type:count")


_COUNTS = ("boards", "corespersocket", "cpus", "procs", "sockets", "socketsperboard", "threadspercore")


def _count(attributes: Mapping[str, str], key: str) -> int:
    """A count of a node line; Slurm takes 1 for 0, and what is no number has a problem of its own."""
    return number(attributes.get(key, ""), 1) or 1


def listed(found: list[str]) -> str:
    """``a, b and 3 more are``."""
    shown, more = found[:_SHOWN], len(found) - _SHOWN
    return f"{', '.join(shown)}{f' and {more} more' if more > 0 else ''} {'is' if len(found) == 1 else 'are'}"
