"""slurm.conf and gres.conf together: what a node would report, and whether slurmctld takes the node.

For each node the two files are merged as slurmd does (src/interfaces/gres.c of Slurm 24.11.5, _merge_config),
then shared GRES are laid over the GPUs (src/plugins/gres/common/gres_c_s.c), then slurmctld validates what
comes of it (_node_config_validate). What AutoDetect would find is not known: GPUs of such nodes are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hpcstate import hostlist
from hpcstate.errors import Problem
from hpcstate.slurm.lint.gres import number_of
from hpcstate.slurm.read import Record, Whole, names, number

Found = tuple[str, Problem]
"""The kind of the file that a problem is in, and the problem."""

_SHARED = ("mps", "shard")
_INVALID = "slurmctld would set the node INVALID_REG and drain it"
_MAX_CORES = 2**16


@dataclass(frozen=True)
class _Device:
    """A line of gres.conf as far as one node uses it; ``files`` is None where it names none."""

    record: Record | None
    name: str
    type: str | None
    count: int
    files: tuple[str, ...] | None
    together: bool = False
    cores: str = ""


@dataclass(frozen=True)
class _Node:
    """One node, which stands for all with the same lines. ``wanted`` is its Gres=: name to type to count.

    ``names`` are all of them as a host list, empty where gres.conf tells no nodes apart.
    """

    record: Record
    names: str
    wanted: Mapping[str, Mapping[str | None, int]]
    devices: Sequence[_Device]
    sockets: int
    cores: int
    detects: bool


def problems(slurm: Whole, gres: Whole) -> list[Found]:
    """What is wrong with the two files together, each problem once."""
    if not (slurm.complete and gres.complete) or "grestypes" not in slurm.values:
        return []
    found: list[Found] = []
    for node in _nodes(slurm, gres):
        # slurmd stops at a list of files that is none (gres.py), and the node reports nothing.
        if not any(hostlist.refusal(file) for device in node.devices for file in device.files or ()):
            found += _node_problems(node)
    known = {name for record in slurm.named("NodeName") for name in names(record.name) or ()}
    all_known = all(names(record.name) is not None for record in slurm.named("NodeName"))
    types = {name.lower() for name in slurm.values["grestypes"][0].split(",")}
    for record in _records(gres):
        if all_known and (absent := [name for name in _node_names(record) or () if name not in known]):
            message = f"{absent[0]} is no node of slurm.conf: the line describes nothing"
            found.append(("gres", record.problem("NodeName", message, "correct the name", "warning")))
        name = _gres_name(record)
        if name and name.lower() not in types:
            message = f"{name} is not in GresTypes of slurm.conf: slurmd logs an error and ignores the line"
            found.append(("gres", record.problem("Name", message, f"write GresTypes={name}", "warning")))
    return list(dict.fromkeys(found))


def _records(gres: Whole) -> list[Record]:
    """The device lines in the order of the file."""
    both = (*gres.records.get("Name", ()), *gres.records.get("NodeName", ()))
    return sorted(both, key=lambda record: (record.statement.line, record.statement.origin))


def _gres_name(record: Record) -> str:
    return record.name if record.statement.begins == "Name" else record.attributes.get("name", "")


def _node_names(record: Record) -> Sequence[str] | None:
    return names(record.name) if record.statement.begins == "NodeName" else ()


def _nodes(slurm: Whole, gres: Whole) -> Iterator[_Node]:
    """One node of each kind."""
    records = [(record, _node_names(record)) for record in _records(gres)]
    apart = any(record.statement.begins == "NodeName" for record, _ in records)
    kinds: dict[tuple[int, ...], tuple[Record, list[Record], list[str]]] = {}
    types = slurm.values["grestypes"][0].split(",")
    for line in slurm.named("NodeName"):
        for node in names(line.name) or ():
            own = [
                record
                for record, nodes in records
                if record.statement.begins == "Name" or node in (nodes or ())
            ]
            kinds.setdefault((id(line), *map(id, own)), (line, own, []))[2].append(node)
    for line, own, alike in kinds.values():
        yield _Node(
            line,
            hostlist.compress(alike) if apart else "",
            _wanted(line.attributes.get("gres", ""), types),
            [device for record in own if (device := _device(record))],
            *_cores(line),
            slurm_detects(gres, own),
        )


def slurm_detects(gres: Whole, own: Sequence[Record]) -> bool:
    """Whether slurmd of a node with these lines looks for GPUs by itself (_handle_local_autodetect): what a
    NodeName line says goes before the line for all.
    """
    local = [
        r.attributes["autodetect"]
        for r in own
        if "autodetect" in r.attributes and r.statement.begins != "Name"
    ]
    value = local[0].lower() if local else gres.value("AutoDetect")
    return bool(re.search("nvml|rsmi|oneapi|nrt|nvidia", value))


def _wanted(value: str, types: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """Gres= of a node line: ``gpu:a100:2(S:0),gpu:t4:1`` (_node_config_init, _get_gres_cnt)."""
    wanted: dict[str, dict[str | None, int]] = {}
    for word in re.split(r",(?![^(]*\))", value):
        name, *fields = word.partition("(")[0].split(":")
        if name not in types:
            continue
        fields = [text for text in fields if text != "no_consume"]
        count = number_of(fields[-1]) if fields else 1
        if fields and count is not None:
            fields.pop()
        of_type = wanted.setdefault(name, {})
        type_ = (fields[0] or None) if fields else None
        of_type[type_] = of_type.get(type_, 0) + (1 if count is None else count)
    return wanted


def _device(record: Record) -> _Device | None:
    name, attributes = _gres_name(record), record.attributes
    if not name:
        return None
    several = attributes.get("multiplefiles")
    plain = attributes.get("file", attributes.get("files"))
    value = several if plain is None else plain
    files = tuple(names(value) or (value,)) if value is not None else None
    counted = 1 if files is None or (plain is None) else len(files)
    count = number_of(attributes["count"]) if "count" in attributes else counted
    cores = attributes.get("cores", attributes.get("cpus", ""))
    return _Device(
        record, name, attributes.get("type"), counted if count is None else count, files, plain is None, cores
    )


def _cores(line: Record) -> tuple[int, int]:
    """Sockets and cores of each (src/common/read_config.c, _parse_nodename); 0 where CPUs do not fit."""

    def of(key: str, default: int) -> int:
        return number(line.attributes.get(key, ""), default) or 1

    cores, threads, boards = of("corespersocket", 1), of("threadspercore", 1), of("boards", 1)
    cpus = of("cpus", of("procs", 0) if "procs" in line.attributes else 1)
    if "socketsperboard" in line.attributes:
        sockets = boards * of("socketsperboard", 1)
    elif "sockets" in line.attributes:
        sockets = of("sockets", 1)
    else:
        fits = cpus >= cores * threads and cpus % (cores * threads) == 0
        sockets = cpus // (cores * threads) if fits else boards
    given = {"cpus", "procs"} & line.attributes.keys()
    if given and cpus not in (sockets, sockets * cores, sockets * cores * threads):
        return 0, 0
    return sockets, cores


def _node_problems(node: _Node) -> Iterator[Found]:
    merged: dict[str, list[_Device]] = {}
    for name in node.wanted:
        merged[name] = list(_merged(node, name))
    if not node.detects:
        for shared in (name for name in _SHARED if name in merged):
            yield from _shared_problems(node, shared, merged)
        yield from _missing(node, merged)
    yield from _same_file(node)
    yield from _core_problems(node, merged)
    yield from _cores_of_some(node)
    yield from _restricted(node, merged)
    yield from _too_many(node)


def _merged(node: _Node, name: str) -> Iterator[_Device]:
    """_merge_gres2: what slurm.conf counts is taken from the lines of gres.conf, the rest has no file."""
    left = [device for device in node.devices if device.name == name]
    for type_, wanted in node.wanted[name].items():
        count = wanted
        while count:
            match = next(
                (
                    d
                    for d in left
                    if type_ is None or (d.type is not None and d.type.lower() == type_.lower())
                ),
                None,
            )
            if match is None:
                break
            left.remove(match)
            taken = min(match.count, count)
            files = match.files
            if files is not None and not match.together and taken < match.count:
                files = files[:taken]
            yield replace(match, type=None if type_ is None else match.type, count=taken, files=files)
            count -= taken
        if count:
            yield _Device(None, name, type_, count, None)


def _missing(node: _Node, merged: Mapping[str, Sequence[_Device]]) -> Iterator[Found]:
    """A GPU without a file is dropped (add_gres_to_list, "Ignoring file-less GPU"), and then the node has
    less than slurm.conf says (_node_config_validate).
    """
    if "gpu" not in merged:
        return
    wanted = sum(node.wanted["gpu"].values())
    usable = [device for device in merged["gpu"] if device.files is not None]
    has = sum(device.count for device in usable)
    line = node.record
    if has < wanted:
        lines = [device for device in node.devices if device.name.lower() == "gpu"]
        message = f"promises {wanted} gpu, and gres.conf offers {has} that match: {_INVALID}"
        yield "slurm", line.problem("Gres", message, _why_less(node, lines))
        return
    for device in usable:
        if device.type is not None and device.record and device.type not in node.wanted["gpu"]:
            message = f"slurm.conf spells the type {_spelled(node, device.type)}: {_INVALID}"
            yield "gres", device.record.problem("Type", message, "write it the same way in both files")


def _why_less(node: _Node, lines: Sequence[_Device]) -> str:
    odd = next((device for device in lines if device.name != "gpu"), None)
    if odd:
        return f"gres.conf has Name={odd.name}; names are told apart by case"
    if not lines:
        return f"gres.conf has no line for it: write {_gpu_lines(node)}, or AutoDetect=nvidia"
    if all(device.files is None for device in lines):
        return "a GPU needs File= in gres.conf"
    types = {type_ for type_ in node.wanted["gpu"] if type_ is not None}
    given = {device.type for device in lines if device.type is not None}
    if types and not given:
        return f"gres.conf names no Type: write Type={sorted(types)[0]}"
    if types and {name.lower() for name in types} != {name.lower() for name in given}:
        wanted, offered = (", ".join(sorted(some)) for some in (types, given))
        return f"the types are {wanted} in slurm.conf and {offered} in gres.conf"
    return "correct the count, or add the devices to gres.conf"


def _gpu_lines(node: _Node) -> str:
    """The lines of gres.conf that the gpu of ``node`` would have, numbered as NVIDIA's driver does."""
    lines, first = [], 0
    for type_, count in node.wanted["gpu"].items():
        which = f"{first}" if count < 2 else f"[{first}-{first + count - 1}]"
        words = (f"NodeName={node.names}" if node.names else "", "Name=gpu", f"Type={type_}" if type_ else "")
        lines.append(" ".join(word for word in (*words, f"File=/dev/nvidia{which}") if word))
        first += count
    return " and ".join(lines)


def _spelled(node: _Node, type_: str) -> str:
    return next((name for name in node.wanted["gpu"] if name and name.lower() == type_.lower()), "otherwise")


def _shared_problems(node: _Node, name: str, merged: Mapping[str, Sequence[_Device]]) -> Iterator[Found]:
    """gres_c_s_init_share_devices: _build_shared_list and _merge_lists."""
    shared = merged[name]
    files = {file for device in merged.get("gpu", ()) for file in device.files or ()}
    bare = [device for device in shared if device.files is None]
    line = node.record
    wanted = sum(node.wanted[name].values())
    offered = sum(device.count for device in node.devices if device.name == name)
    record = next((device.record for device in shared if device.record), None)
    if len(bare) > 1 or (bare and len(bare) < len(shared)):
        message = "lines with and without File, or several without: slurmd stops"
        if offered < wanted and bare[-1].record is None:
            total = "; Count is for the whole line, not for each file" if any(d.files for d in shared) else ""
            message = f"promises {wanted} {name}, and gres.conf offers {offered}: slurmd stops"
            yield "slurm", line.problem("Gres", message, f"the counts must be the same{total}")
        elif record:
            yield "gres", record.problem("Name", message, f"write one line: Name={name} Count={wanted}")
        return
    if not files:
        message = f"{name} needs gpu with File=, and the node has none: slurmd stops"
        if record:
            line_of_gpu = _gpu_lines(node) if node.wanted.get("gpu") else "Name=gpu File=/dev/nvidia[0-1]"
            yield "gres", record.problem("Name", message, f"write {line_of_gpu} as well")
        else:
            yield "slurm", line.problem("Gres", message, "write Name=gpu File=... in gres.conf")
        return
    if bare:
        return
    usable, taken = 0, set[str]()
    dropped: tuple[Record | None, str] = (None, "")
    for device in shared:
        for file in device.files or ():
            if file in files and file not in taken:
                usable += device.count // len(device.files or "1")
                taken.add(file)
            elif not dropped[1]:
                dropped = (device.record or record, file)
    where, odd = dropped
    if usable < wanted and where and odd in files:
        message = f"{odd} is on a line of {name} before: this one is dropped, and {_INVALID}"
        yield "gres", where.problem("File", message, "write one line for each file, with all of its Count")
    elif usable < wanted and where:
        message = f"{odd} is no File of a gpu line: it is dropped, and {_INVALID}"
        yield "gres", where.problem("File", message, "name the files of the gpu lines")


def _same_file(node: _Node) -> Iterator[Found]:
    """src/plugins/gres/common/gres_common.c, gres_node_config_load: "duplicate device file name". The files
    of MultipleFiles, as of two MIG devices of one GPU, are not compared (src/interfaces/gres.c).
    """
    seen: set[tuple[str, str]] = set()
    for device in node.devices:
        if device.name in _SHARED or device.name not in node.wanted or device.together:
            continue
        for file in device.files or ():
            if (device.name, file) in seen and device.record:
                message = f"{file} is on another line too: slurmd stops"
                yield "gres", device.record.problem("File", message, "name each file once")
                break
            seen.add((device.name, file))


def _core_problems(node: _Node, merged: Mapping[str, Sequence[_Device]]) -> Iterator[Found]:
    """_foreach_rebuild_topo and _check_core_range_matches_sock: numbers of cores, whole sockets."""
    total = node.sockets * node.cores
    for device in (device for devices in merged.values() for device in devices):
        cores = numbers(device.cores)
        if not device.cores or cores is None or not total or not device.record or device.files is None:
            continue
        key = next(key for key in ("Cores", "CPUs") if key.lower() in device.record.attributes)
        if max(cores) >= total:
            message = f"names core {max(cores)}, and the node has cores 0-{total - 1}: {_INVALID}"
            hint = f"write Cores= with numbers of cores (socket 0 is 0-{node.cores - 1}), not of threads"
            yield "gres", device.record.problem(key, message, hint)
            continue
        for socket in range(node.sockets):
            own = range(socket * node.cores, (socket + 1) * node.cores)
            if 0 < len(cores.intersection(own)) < node.cores:
                message = f"names a part of socket {socket}, which is cores {own[0]}-{own[-1]}: {_INVALID}"
                yield "gres", device.record.problem(key, message, f"write Cores={own[0]}-{own[-1]}")
                break


def _cores_of_some(node: _Node) -> Iterator[Found]:
    """_foreach_rebuild_topo: lines without cores count as near to all, and an error is logged."""
    for name in node.wanted:
        lines = [device for device in node.devices if device.name == name and device.files is not None]
        bare = [device.record for device in lines if not device.cores]
        if bare and bare[0] and len(bare) < len(lines) and not node.detects:
            message = f"some lines of {name} have Cores and others do not; slurmctld logs an error"
            yield "gres", bare[0].problem("Cores", message, "give all of them Cores=, or none", "warning")


def numbers(text: str) -> set[int] | None:
    """The numbers of a list of cores, None for what is none (src/common/bitstring.c, bit_unfmt)."""
    found: set[int] = set()
    for part in text.strip("[]").split(","):
        ends = re.fullmatch("([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if ends is None or int(ends[2] or ends[1]) > _MAX_CORES:
            return None
        found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found or None


def _restricted(node: _Node, merged: Mapping[str, Sequence[_Device]]) -> Iterator[Found]:
    """src/slurmctld/node_mgr.c: cores can be restricted to GPUs that say which cores are near."""
    gpus = merged.get("gpu", ())
    restricts = number(node.record.attributes.get("restrictedcorespergpu", ""), 0)
    if restricts and not node.detects and not any(device.cores for device in gpus):
        message = f"needs Cores= on the gpu lines of gres.conf: {_INVALID}"
        yield "slurm", node.record.problem("RestrictedCoresPerGPU", message, "write Cores=0-15")
    by_cores: dict[str, int] = {}
    for device in gpus:
        by_cores[device.cores] = by_cores.get(device.cores, 0) + device.count
    for text, count in by_cores.items():
        near = len(numbers(text) or ())
        if near and restricts * count > near and not node.detects:
            message = f"is {restricts}, and {count} gpu share the {near} cores {text}: {_INVALID}"
            hint = f"write {near // count} or less"
            yield "slurm", node.record.problem("RestrictedCoresPerGPU", message, hint)


def _too_many(node: _Node) -> Iterator[Found]:
    """_check_conf_mismatch: what slurm.conf does not count is logged and left out."""
    for name in dict.fromkeys(device.name for device in node.devices):
        wanted = node.wanted.get(name, {})
        lines = [device for device in node.devices if device.name == name]
        offered, counted = sum(device.count for device in lines), sum(wanted.values())
        record = lines[-1].record
        if offered > counted and record and not node.detects:
            message = (
                f"offers {offered} {name}, and Gres of slurm.conf counts {counted}: the rest is not used"
            )
            yield "gres", record.problem("Name", message, "correct one of them", "warning")
