"""The devices of a gres.conf: what slurmd would stop at (src/interfaces/gres.c of Slurm 24.11.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.keys import keys
from hpcstate.slurm.read import Record, Whole, names

_LEAST_LINK = -2
_SHARED = frozenset(("mps", "shard"))
_FLAGS = (
    "CountOnly", "nvidia_gpu_env", "amd_gpu_env", "intel_gpu_env", "opencl_env", "one_sharing", "all_sharing",
    "explicit", "no_gpu_env",
)  # fmt: skip
_COUNT = re.compile(r"[0-9]+([kmgtp](ib|b)?)?", re.IGNORECASE)
_SUFFIX = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def problems(whole: Whole) -> Iterator[Problem]:
    """What slurmd makes of the lines: each by itself, then all those that concern a node."""
    devices = sorted(
        (*whole.records.get("Name", ()), *whole.records.get("NodeName", ())),
        key=lambda record: (record.statement.line, record.statement.origin),
    )
    for record in devices:
        yield from _device_problems(record)
    for group in _by_node(devices):
        for name in dict.fromkeys(_gres_name(record) for record in group):
            yield from _mixed_lines([record for record in group if name and _gres_name(record) == name], name)
        yield from _flags_of_lines(group)
        yield from _autodetect(group)


def _gres_name(record: Record) -> str:
    """The name of the GRES; on lines that begin with NodeName it is an attribute."""
    return record.name if record.statement.begins == "Name" else record.attributes.get("name", "")


def _device_problems(record: Record) -> Iterator[Problem]:
    """_parse_gres_config."""
    attributes = record.attributes
    if not _gres_name(record) and "autodetect" not in attributes:
        message = "the line has no Name: slurmd logs an error and ignores it"
        yield record.problem("Name", message, "write NodeName=node Name=gpu File=/dev/...", "warning")
    for key in ("File", "Files", "MultipleFiles"):
        value = attributes.get(key.lower(), "")
        if why := refusal(value):
            yield record.problem(key, f"{why}: slurmd stops", f"write {_counting_up(value)}")
            continue
        relative = next((file for file in names(value) or () if not file.startswith(("/", "dev/"))), "")
        if relative and relative.lower() != "(null)":
            # _validate_file, _wait_for_file
            message = f"{relative} is no absolute path: slurmd waits 20 seconds for it, and stops"
            yield record.problem(key, message, f"write /dev/{relative}")
    several = attributes.get("multiplefiles", "")
    plain = attributes.get("file", attributes.get("files", ""))
    if several and plain:
        yield record.problem("MultipleFiles", "excludes File: slurmd stops", "keep one of them")
    elif several and len(names(several) or "12") < 2:
        yield record.problem("MultipleFiles", "names one file only: slurmd stops", "write File=")
    yield from _count_problems(record, names(plain) if plain and not several else None)
    if plain.lower() == "(null)" or several.lower() == "(null)":
        message = "(null) is no file: slurmd waits 20 seconds for it, and stops"
        yield record.problem("File", message, "leave File out; (null) is how Slurm prints that there is none")
    yield from _link_problems(record)
    yield from _flag_problems(record)


def _counting_up(value: str) -> str:
    """``value`` with the ranges that count down turned round; an example where more is wrong with it."""
    turned = re.sub(
        r"\b([0-9]{1,9})-([0-9]{1,9})\b",
        lambda found: "-".join(sorted(found.groups(), key=int)),
        value,
    )
    return "/dev/nvidia[0-3]" if refusal(turned) else turned


def _link_problems(record: Record) -> Iterator[Problem]:
    """gres_links_validate."""
    value = record.attributes.get("links", record.attributes.get("link"))
    if value is None:
        return
    own = [text for text in value.split(",") if text]
    numbers = all(re.fullmatch(r"\s*[-+]?[0-9]{1,4}", text) and int(text) >= _LEAST_LINK for text in own)
    if not numbers or sum(int(text) == -1 for text in own) != 1:
        message = f'"{value}" is no list of numbers with one -1, for the device itself: it is ignored'
        yield record.problem("Links", message, "write Links=-1,4,4,4", "warning")


def _count_problems(record: Record, files: Sequence[str] | None) -> Iterator[Problem]:
    value = record.attributes.get("count")
    if value is None:
        return
    if not _COUNT.fullmatch(value):
        yield record.problem("Count", "is not a number: slurmd stops", "write a number, K, M, G behind it")
        return
    shared = _gres_name(record).lower() in _SHARED
    if files and not shared and number_of(value) not in (None, len(files)):
        message = f"is {value}, and File names {len(files)}: slurmd stops"
        yield record.problem("Count", message, "leave Count out: Slurm counts the files")


def number_of(text: str) -> int | None:
    """The number of a Count (src/interfaces/gres.c, _parse_gres_config); None where it is none."""
    found = re.fullmatch("([0-9]{1,18})([kmgtp]?)(?:i?b)?", text.lower())
    return int(found[1]) * _SUFFIX[found[2]] if found else None


def _flag_problems(record: Record) -> Iterator[Problem]:
    """gres_flags_parse, which finds names anywhere in the value and ignores what it does not know."""
    flags = [flag for flag in record.attributes.get("flags", "").split(",") if flag]
    lower = [flag.lower() for flag in flags]
    if "no_gpu_env" in lower and _ENVIRONMENT & set(lower):
        yield record.problem("Flags", "no_gpu_env excludes the other ..._env flags: slurmd stops")
    known = {flag.lower() for flag in _FLAGS} | keys("gres").new_words_of(
        record.statement.begins, "flags"
    ).keys()
    for flag in flags:
        if flag.lower() not in known:
            message = f'"{flag}" is not known: slurmd ignores it'
            yield record.problem("Flags", message, f"the flags are {', '.join(_FLAGS)}", "warning")


def _by_node(devices: Sequence[Record]) -> list[Sequence[Record]]:
    """The lines that concern a node, in the order of the file, for each set of lines that some node has."""
    by_node: dict[str, list[Record]] = {}
    for record in devices:
        if record.statement.begins == "NodeName":
            for node in names(record.name) or ():
                by_node.setdefault(node, [])
    for record in devices:
        own = names(record.name) if record.statement.begins == "NodeName" else tuple(by_node) or ("",)
        for node in own or ():
            by_node.setdefault(node, []).append(record)
    return list({tuple(id(record) for record in group): group for group in by_node.values()}.values())


_ENVIRONMENT = frozenset(("nvidia_gpu_env", "amd_gpu_env", "intel_gpu_env", "opencl_env"))
_DEFAULT_FLAGS = _ENVIRONMENT | {"default"}


def _flags(value: str) -> frozenset[str]:
    """What gres_flags_parse finds in the value: names anywhere, those of all_sharing and no_gpu_env aside."""
    known = (flag.lower() for flag in _FLAGS if flag not in ("all_sharing", "no_gpu_env"))
    return frozenset(flag for flag in known if flag in value.lower())


def _flags_of_lines(lines: Sequence[Record]) -> Iterator[Problem]:
    """_parse_gres_config: lines of one name after each other have the same flags; a gpu line without Flags
    counts as one with all of the environment.
    """
    before: tuple[str, frozenset[str], bool] | None = None
    for record in lines:
        name, value = _gres_name(record).lower(), record.attributes.get("flags")
        if not name:
            continue
        if value is not None:
            flags, none = _flags(value), "no_gpu_env" in value.lower()
            if name == "mps" and not re.search("one_sharing|all_sharing", value.lower()):
                flags |= {"one_sharing"}
            if before and before[0] == name and before[1:] != (flags, none):
                message = f"differ from those of the line of {name} before it: slurmd stops"
                hint = "give all lines of one name the same Flags; one without has those of the first"
                yield record.problem("Flags", message, hint)
            before = (name, flags, none)
        elif name == "gpu" and not (before and before[0] == name and (before[1] or before[2])):
            before = (name, _DEFAULT_FLAGS, False)


def _autodetect(lines: Sequence[Record]) -> Iterator[Problem]:
    """_handle_local_autodetect: the lines of a node agree."""
    first = ""
    for record in lines:
        value = record.attributes.get("autodetect", "").lower()
        if not value or record.statement.begins == "Name":
            continue
        if first and value != first:
            message = f"differs from AutoDetect={first} of another line of the node: slurmd stops"
            yield record.problem("AutoDetect", message, "keep one of them")
        first = first or value


def _mixed_lines(lines: Sequence[Record], name: str) -> Iterator[Problem]:
    with_file = [bool(line.attributes.keys() & {"file", "files", "multiplefiles"}) for line in lines]
    with_type = ["type" in line.attributes for line in lines]
    for key, given in (("File", with_file), ("Type", with_type)):
        odd = next((line for line, has in zip(lines, given, strict=True) if has != given[0]), None)
        if odd:
            message = f"some lines of {name} have a {key} and others do not: slurmd stops"
            yield odd.problem(key, message, f"give all of them a {key}, or none")
    if len(lines) > 1 and not any(with_file) and not any(with_type):
        message = f"{name} has several lines without File and Type: slurmd stops"
        yield lines[1].problem("Name", message, "write one line with Count=")
