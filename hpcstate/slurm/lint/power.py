"""Power saving in slurm.conf: whether slurmctld starts it at all, and what it is to leave alone.

Read from src/slurmctld/power_save.c of Slurm 24.11.5. Most faults are only logged: power saving stays off, or
a name is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.lint.defaults import integer, option
from hpcstate.slurm.lint.nodes import known_nodes, listed
from hpcstate.slurm.read import Whole, names

_NEVER = ("infinite", "-1")
_OFF = "power saving stays off, slurmctld logs an error"
_EXCLUDABLE = frozenset(
    [
        "CLOUD",
        "DRAIN",
        "DYNAMIC_FUTURE",
        "DYNAMIC_NORM",
        "FAIL",
        "INVALID_REG",
        "MAINTENANCE",
        "NOT_RESPONDING",
        "PLANNED",
        "RESERVED",
    ]
)
_FLAGS = (
    *("BLOCKED", "CLOUD", "COMPLETING", "DRAIN", "DYNAMIC_FUTURE", "DYNAMIC_NORM", "INVALID_REG", "FAIL"),
    *("MAINTENANCE", "POWER_DOWN", "POWER_UP", "POWERED_DOWN", "REBOOT_REQUESTED", "REBOOT_ISSUED"),
    *("RESERVED", "RESUME", "NOT_RESPONDING", "PLANNED", "POWERING_UP", "POWERING_DOWN"),
)
"""The flags of a node's state in the order in which Slurm looks (src/common/slurm_protocol_defs.c,
node_state_flags): the first of which the word is a beginning, or that is a beginning of the word.
"""


def problems(whole: Whole) -> Iterator[Problem]:
    """What is wrong with a complete slurm.conf that saves power; nothing for one that does not."""
    partitions = [r for r in whole.named("PartitionName") if r.attributes.get("suspendtime")]
    times = [record.attributes["suspendtime"].lower() for record in partitions]
    for record, value in zip(partitions, times, strict=True):
        if value not in _NEVER and not re.fullmatch("[0-9]+s?|-[0-9].*", value):
            yield record.problem("SuspendTime", *_misread(value, "INFINITE"), severity="warning")
    value = whole.value("SuspendTime")
    never = value in ("", "none", *_NEVER)
    if not never and not re.fullmatch("[0-9]+s?|-[0-9].*", value):
        yield whole.problem("SuspendTime", *_misread(value, "NONE"), severity="warning")
    if never and all(value in _NEVER for value in times):
        return
    found = list(_off(whole))
    yield from found
    if found:
        return
    program = whole.value("ResumeFailProgram")
    if program and not program.startswith("/"):
        message = "is no absolute path: slurmctld logs an error, and nothing is run"
        yield whole.problem("ResumeFailProgram", message, "write the whole path", "warning")
    yield from _excluded_nodes(whole)
    yield from _excluded_partitions(whole)
    yield from _excluded_states(whole)


def _misread(value: str, never: str) -> tuple[str, str]:
    """src/common/read_config.c, slurm_atoul: what does not begin with a number is 0."""
    seconds = re.match("[0-9]*", value)
    message = f"{value} is read as {int(seconds[0] or 0) if seconds else 0} seconds of being idle"
    return message, f"write a number of seconds, or {never}"


def _off(whole: Whole) -> Iterator[Problem]:
    """_init_power_config; the first fault ends it."""
    for key in ("SuspendProgram", "ResumeProgram"):
        value = whole.value(key)
        if not value:
            message = f"is missing, and SuspendTime is set: {_OFF}"
            yield whole.problem(key, message, f"write {key}=/path", "warning")
            return
        if not value.startswith("/"):
            message = f"is no absolute path: {_OFF}"
            yield whole.problem(key, message, "write the whole path, without arguments", "warning")
            return
        if " " in value:
            message = f"is taken for the path of a program, spaces and all: {_OFF}"
            yield whole.problem(key, message, "write the path alone, without arguments", "warning")
            return
    parameters = whole.value("SlurmctldParameters")
    intervals = (option(parameters, f"power_save_{name}") for name in ("interval", "min_interval"))
    if any(value is not None and not 0 <= integer(value) <= 60 for value in intervals):
        message = f"power_save_interval is not within 60 seconds: {_OFF}"
        yield whole.problem("SlurmctldParameters", message, "write 60 or less", "warning")


def _excluded_nodes(whole: Whole) -> Iterator[Problem]:
    """_parse_exc_nodes: with a count (n[1-4]:2) the value is cut at each comma, in brackets too, and a host
    list that is none then ends slurmctld (hostlist2bitmap of none; seen with 24.11.5).
    """
    raw = whole.values["suspendexcnodes"][0] if "suspendexcnodes" in whole.values else ""
    if not raw:
        return
    words = [word.partition(":")[0] for word in raw.split(",") if word] if ":" in raw else [raw]
    if any(refusal(word) for word in words):
        message = "is no list of nodes: slurmctld ends at once"
        hint = "write it as n[1-4,7]"
        if ":" in raw and not refusal(re.sub(":[0-9]+", "", raw)):
            message = "is cut at the comma within the brackets, as a count follows: slurmctld ends at once"
            hint = "write n1:1,n2:1, or a range without a comma"
        yield whole.problem("SuspendExcNodes", message, hint)
        return
    known, all_known = known_nodes(whole)
    known |= {record.name for record in whole.named("NodeSet")} | {"ALL", "all"}
    missing = [name for word in words for name in names(word) or () if name not in known]
    if missing and all_known:
        message = f"{listed(missing)} in no NodeName line: slurmctld logs an error"
        yield whole.problem("SuspendExcNodes", message, "correct the name", "warning")


def _excluded_partitions(whole: Whole) -> Iterator[Problem]:
    """power_save_exc_setup."""
    partitions = {record.name for record in whole.named("PartitionName")}
    raw = whole.values["suspendexcparts"][0] if "suspendexcparts" in whole.values else ""
    for name in raw.split(","):
        if name and name not in partitions:
            message = f"{name.strip()} is no partition: slurmctld logs an error and ignores it"
            hint = "write it without a space" if name.strip() in partitions else "correct the name"
            yield whole.problem("SuspendExcParts", message, hint, "warning")


def _excluded_states(whole: Whole) -> Iterator[Problem]:
    """_parse_exc_states."""
    raw = whole.values["suspendexcstates"][0] if "suspendexcstates" in whole.values else ""
    for word in raw.split(","):
        upper = word.upper()
        if not word or (len(word) > 1 and "DOWN".startswith(upper)):
            continue
        flag = next((name for name in _FLAGS if name.startswith(upper) or upper.startswith(name)), "")
        if flag in _EXCLUDABLE:
            continue
        message = f'"{word}" is no state that can be left alone: slurmctld logs an error and ignores it'
        hint = f"one of DOWN, {', '.join(sorted(_EXCLUDABLE))}"
        if word != word.strip():
            hint = "write it without a space"
        yield whole.problem("SuspendExcStates", message, hint, "warning")
