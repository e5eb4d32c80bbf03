"""What Slurm's daemons said, as problems of the files they read. Pure: their output in, problems out.

The daemons name a line in some messages only (src/common/parse_config.c, "Parse error in file ... line ..."):
for the others the statement that the message speaks of is looked up in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpcstate.errors import HpcstateError, Problem
from hpcstate.hostlist import expand
from hpcstate.judge.case import OF_A_DATABASE
from hpcstate.judge.inside import RUNNING, WAITING, Hearing, Registered, Said
from hpcstate.slurm.keys import KINDS
from hpcstate.slurm.lint.conf import kind_of
from hpcstate.slurm.read import Statement, statements

_LINE = re.compile(
    r"(?:\[[^]]*\] )?(?P<program>[a-z]+)(?:-[\w.-]+)?: (?P<level>error|fatal|warning): (?P<text>.*)"
)
_FUNCTION = re.compile(r"\A_?[a-z0-9]+(?:_[a-z0-9]+)+: (?=\S)")
_CONF_FOLDER = re.compile(r"/etc/slurm/(?:slurmctld|slurmd(?:\.[^/\s]+)?)/")
_IN_LINE = re.compile(r"file \S*?(?P<file>\w+\.conf)\S* line (?P<line>[0-9]+)")
_OF_FILE = re.compile(r"\b(?P<file>slurm|cgroup|gres|job_container|mpi)\.conf\b")
_SUMMARY = re.compile(
    r"Unable to process configuration file|Could not open/read/parse \w+\.conf|error opening/reading "
    r"\S*gres\.conf|slurmd initialization failed"
)
"""How a daemon ends after it said what is wrong."""

_NOT_OF_THE_FILES = tuple(
    re.compile(pattern)
    for pattern in (
        # The throwaway root begins without state.
        r"Could not open \w+ state file|NOTE: Trying backup [a-z ]*state save file",
        # No mail program and no accounting, on purpose: docs/slurm-configuration.md.
        r"Configured MailProg is invalid|Job accounting information gathered, but not stored",
        r"Even though we are collecting accounting information",
        # The slurmd that registers is given a file that differs (overrides); why it is refused is told once.
        r"appears to have a different slurm\.conf|_slurm_rpc_node_registration node=",
        r"Setting node \S+ state to INVAL|AccountingStorageEnforce set for AccountingStorageType='\(null\)'",
        # This machine's, not the configuration's: slow, and the judge ends a slurmctld that still works.
        r"left [0-9]+ agent threads active",
        # The same; and what ends a slurmd that found no control groups.
        r"High latency for 1000 calls to gettimeofday|Unable to initialize cgroup plugin",
    )
)
_NOT_WITH_A_DATABASE = re.compile("We have no QOS on the system")
"""What a slurmctld says that was told to do without its slurmdbd (case.py)."""
_NO_CONTROL_GROUPS = re.compile(
    r"cgroup filesystem not mounted in /sys/fs/cgroup|Could not parse '/sys/fs/cgroup' root mount|"
    r"The cgroup mountpoint does not align|\S+ is not a valid cgroup2? mountpoint"
)
"""What slurmd says once it has read its files, where it finds no control groups; by plugin."""
_TELLING = re.compile(r"[a-z].*[/0-9]|[a-z]{6}")
"""Values that a message hardly has by chance."""
_CERTAIN = re.compile(
    r"gres|gpu|plugin|\b(File|MultipleFiles|Count|Links|Cores|CPU affinity)\b", re.IGNORECASE
)
_OF_THE_HARDWARE = re.compile(r"\A(?:Low (?:RealMemory|TmpDisk|socket|CPUs)|gres/\w+ core)")
"""Reasons that come from the machine the judge runs on."""
_TWICE = re.compile(r"(?P<key>\w+) 1 specified more than once")
_OVERRIDDEN = ("AccountingStorageType", "AccountingStorageTRES", "SlurmUser", "PriorityFlags", *OF_A_DATABASE)
"""Keys that slurmctld may have been told again (case.py); a slurmd of a node has been told more."""


@dataclass(frozen=True)
class Line:
    """One message of a daemon, with paths and names of functions taken out."""

    program: str
    level: Literal["error", "fatal", "warning"]
    text: str


def problems(hearing: Hearing, files: Mapping[str, str], gres: Mapping[str, str]) -> dict[str, list[Problem]]:
    """File name to its problems. ``files`` are those that all nodes share, ``gres`` the gres.conf by node.

    A message of a daemon that ended is an error, of one that ran a warning; a node that slurmctld sets
    INVALID_REG is an error. What two daemons say is told once.
    """
    found: dict[str, list[Problem]] = {}
    told: set[str] = set()
    # slurmctld first: its words are those that the administrator will meet.
    for said in sorted(hearing.said, key=lambda said: said.program != "slurmctld"):
        texts = dict(files) | {"gres.conf": gres.get(said.node, "")}
        for name, text, problem in _said_problems(said, texts, hearing):
            if text not in told:
                told.add(text)
                found.setdefault(_file_of(name, said.node), []).append(problem)
    for node in hearing.nodes:
        for problem in _node_problems(node, files):
            found.setdefault("slurm.conf", []).append(problem)
    return {name: sorted(set(some)) for name, some in found.items()}


def _file_of(name: str, node: str) -> str:
    return f"gres.conf of {node}" if name == "gres.conf" and node else name


def lines(output: str) -> list[Line]:
    """The errors, warnings and fatal messages of ``output``, without those that the throwaway root causes."""
    found = []
    for raw in output.splitlines():
        match = _LINE.match(raw.strip())
        if match is None or any(pattern.search(match["text"]) for pattern in _NOT_OF_THE_FILES):
            continue
        if _NO_CONTROL_GROUPS.search(match["text"]):
            continue
        text = _CONF_FOLDER.sub("/etc/slurm/", _FUNCTION.sub("", match["text"]))
        line = Line(match["program"], match["level"], text)  # type: ignore[arg-type]
        if line not in found:
            found.append(line)
    return found


def undecided(hearing: Hearing) -> str:
    """The last words of a slurmctld (or of a munged before it) that neither came up in time nor said why,
    empty where it was heard: a machine with much other work, not the files.
    """
    for said in hearing.said:
        if said.program == "slurmctld":
            return _last_words(said) if said.code is None and _end(said, hearing) == "silent" else ""
    return _last_words(hearing.said[-1]) if hearing.said else "nothing was said"


def _said_problems(
    said: Said, texts: Mapping[str, str], hearing: Hearing
) -> Iterator[tuple[str, str, Problem]]:
    """The problems of one daemon: the file, the daemon's words, the problem."""
    spoken = [line for line in lines(said.output) if not _of_override(line, said)]
    if any(_NOT_WITH_A_DATABASE.search(line.text) for line in spoken) and _has_database(texts):
        spoken = [line for line in spoken if not _NOT_WITH_A_DATABASE.search(line.text)]
    end = _end(said, hearing)
    summary = next((line for line in spoken if _SUMMARY.search(line.text)), None)
    details = [line for line in spoken if line is not summary] or (spoken if end == "stopped" else [])
    if end == "silent" or (end == "stopped" and not spoken):
        text = _last_words(said)
        yield "slurm.conf", text, Problem(0, said.program, text, severity="warning" if said.node else "error")
    if said.program == "slurmd -G" and said.node and end != "stopped":
        # Of a node that cannot register here only what it stops at is certain.
        return
    for line in details:
        of_summary = summary if line.level == "error" and end == "stopped" else None
        name, statement = _about(line, of_summary, texts)
        stops = line.level != "warning" and end == "stopped"
        yield name, line.text, _problem(line, statement, of_summary, stops)


def _of_override(line: Line, said: Said) -> bool:
    twice = _TWICE.match(line.text)
    return twice is not None and (bool(said.node) or twice["key"] in _OVERRIDDEN)


def _has_database(texts: Mapping[str, str]) -> bool:
    read = statements(texts.get("slurm.conf", ""), "slurm", texts.get)
    pairs = (pair for statement in read for pair in statement.pairs)
    return any(p.key.lower() == "accountingstoragetype" and "slurmdbd" in p.value.lower() for p in pairs)


def _end(said: Said, hearing: Hearing) -> Literal["as it should", "stopped", "silent"]:
    """How a daemon ended: ``stopped`` by what it read, or ``silent``: it never got so far, nor said why."""
    texts = [line.text for line in lines(said.output) if line.level == "fatal" or _SUMMARY.search(line.text)]
    if said.program == "slurmctld":
        if RUNNING in said.output and said.code in (0, None):
            # None: it was still at its end, with thousands of nodes.
            return "as it should"
        silent = said.code is None and not texts and not WAITING.search(said.output)
        return "silent" if silent else "stopped"
    if said.node:
        # It was told other things than its file says, and in this root more than GRES may be missing.
        errors = [line.text for line in lines(said.output) if line.level != "warning"]
        if WAITING.search(said.output) or (texts and any(_CERTAIN.search(text) for text in errors)):
            return "stopped"
        known = said.program != "slurmd" or said.node in {node.name for node in hearing.nodes}
        return "as it should" if known or texts else "silent"
    if _NO_CONTROL_GROUPS.search(said.output):
        return "as it should"
    return "stopped" if said.code else "as it should"


def _last_words(said: Said) -> str:
    last = said.output.strip().splitlines()[-1:] or ["nothing"]
    how = "did not come up in time" if said.code is None else f"ended with exit code {said.code}"
    return f"{said.program}{' of ' + said.node if said.node else ''} {how}; its last words: {last[0]}"


def _about(line: Line, summary: Line | None, texts: Mapping[str, str]) -> tuple[str, tuple[int, str]]:
    """The file that a message is about, with the line and place: the file that the message names, or its
    summary, or the first in which something is found that it speaks of.
    """
    named = next(
        (found for text in (line.text, summary.text if summary else "") if (found := _OF_FILE.search(text))),
        None,
    )
    gres = re.search(r"\bgres\b|GRES|\bgpu:", line.text) and texts.get("gres.conf")
    order = ["gres.conf", "slurm.conf"] if gres else ["slurm.conf", "cgroup.conf"]
    names = [f"{named['file']}.conf"] if named else order
    for name in names:
        at = _place(line.text, texts, name)
        if at[1]:
            return name, at
    return names[0], (0, "")


def _place(message: str, texts: Mapping[str, str], name: str) -> tuple[int, str]:
    """The line and place in the file ``name`` that ``message`` names or speaks of; 0 and empty for none."""
    read = list(statements(texts.get(name, ""), kind_of(name) or KINDS[0], texts.get))
    at = _IN_LINE.search(message)
    number = int(at["line"]) if at else 0
    if number:
        before = (statement for statement in reversed(read) if statement.line <= number)
        statement = next((statement for statement in before if not statement.origin), None)
    else:
        statement = _statement_of(read, message)
    if statement is None:
        return number, ""
    return number or statement.line, statement.place(_key_in(statement, message))


def _problem(line: Line, at: tuple[int, str], summary: Line | None, stops: bool) -> Problem:
    number, place = at
    message = f"{line.level}: {line.text}"
    hint = f"{line.program} then stops: {summary.text}" if summary and summary is not line else ""
    severity: Literal["error", "warning"] = "error" if stops else "warning"
    if not place:
        return Problem(number, line.program, message, hint, severity)
    return Problem(number, place, f"{line.program}: {message}", hint, severity)


def _statement_of(read: Sequence[Statement], message: str) -> Statement | None:
    """The statement that ``message`` speaks of: of the node or partition, or with the key, that it names."""
    words = {word.strip(".,:;()'\"").lower() for word in re.split(r"[\s=\":]+", message)}
    for key, pattern in (
        ("PartitionName", r"[Pp]artition(?:Name)?[ =]\"?([^\s\",:]+)"),
        ("NodeName", r"[Nn]ode(?:Names?)?[ =]\"?([^\s\",:]+)"),
    ):
        for name in re.findall(pattern, message):
            for statement in read:
                if statement.begins == key and name in _names(statement.pairs[0].value):
                    return statement
            for statement in read:
                if any(name in _names(pair.value) for pair in statement.pairs[1:]):
                    return statement
    scored = [(_score(statement, words), statement) for statement in read]
    best = max(scored, key=lambda pair: pair[0], default=(0, None))
    return best[1] if best[0] else None


def _score(statement: Statement, words: set[str]) -> int:
    """Two for each key that is named and one for each value; keys that begin a record tell nothing."""
    score = 0
    for pair in statement.pairs[1:] if statement.begins else statement.pairs:
        values = {
            value for value in (pair.value.lower(), *pair.value.lower().split(",")) if _TELLING.search(value)
        }
        score += 2 * (pair.key.lower() in words) + bool(values & words)
    rest = re.findall(r"(\w+)\s*=", statement.rest)
    score += 2 * any(word.endswith(f"/{statement.file.lower()}") for word in words if statement.file)
    return score + sum(2 for key in rest if key.lower() in words)


def _names(value: str) -> tuple[str, ...]:
    try:
        return (value, *expand(value))
    except HpcstateError:
        return (value,)


def _key_in(statement: Statement, message: str) -> str:
    if statement.file:
        return "Include"
    found = (pair.key for pair in statement.pairs if re.search(rf"\b{re.escape(pair.key)}\b", message, re.I))
    return next(found, statement.pairs[0].key if statement.pairs else statement.rest.split("=")[0].strip())


def _node_problems(node: Registered, texts: Mapping[str, str]) -> Iterator[Problem]:
    """Why slurmctld would not use a node; what the judge's own machine lacks is left out."""
    if "INVALID_REG" not in node.state:
        return
    for reason in re.split(r", (?=[A-Za-z/]+ )", node.reason):
        if _OF_THE_HARDWARE.match(reason):
            continue
        line = Line("slurmctld", "error", f"node {node.name} is INVALID_REG: {reason}")
        at, place = _place(f"node {node.name}", texts, "slurm.conf")
        of_gres = reason.startswith("gres/")
        hint = "its gres.conf offers less than Gres= promises: slurmctld drains the node" if of_gres else ""
        problem = _problem(line, (at, f"{place} Gres" if place and of_gres else place), None, stops=True)
        yield replace(problem, hint=hint)
