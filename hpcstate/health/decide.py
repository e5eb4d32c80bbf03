"""What follows from the checks of a node: a drain of ours, its end, a note. Pure.

A drain of health has a prefix of its own: a deploy lifts drains that begin with ``hpcstate: ``, and this one
is lifted by nothing but the same check when it passes. Standard library only: it runs on nodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

PREFIX = "hpcstate-health: "
"""How reasons of drains, and Comments, begin that are ours."""

ACTIVE = "active-"
"""How the name of an active check begins: only such a check lifts its drain."""

SEPARATOR = "\x1f"
"""Between the columns of sinfo: no reason that a person writes has it."""

SINFO = (
    "sinfo",
    "--noheader",
    "--Node",
    "--all",
    f"--Format=NodeHost:{SEPARATOR},StateComplete:{SEPARATOR},Comment:{SEPARATOR},Reason:{SEPARATOR}",
)
"""The one question to slurmctld: all nodes, their states, Comments and reasons."""

_LENGTH = 150
"""Of a reason: what `sinfo -R` and a mail still show."""

_REASON = re.compile(rf"{PREFIX}(?P<blame>node|user): (?P<check>[a-z0-9_-]+): (?P<detail>.*)", re.S)
_FAILING = re.compile(rf"{PREFIX}failing (?P<checks>[a-z0-9_,-]+)")
_PROLOG = "Prolog error"
"""Slurm's reason for a node whose prolog failed (slurmd/req.c, _prolog_error)."""


@dataclass(frozen=True)
class Policy:
    """What the declared list says of a check, as far as it matters here (hpcstate.model.health)."""

    name: str
    on_fail: str
    after: int


@dataclass(frozen=True)
class Look:
    """What a check found: ``result`` is ``ok``, ``failed``, or ``broken`` where it could not say.
    ``blame`` says whether the node or a user is the problem."""

    check: str
    result: str
    detail: str = ""
    blame: str = "node"


@dataclass(frozen=True)
class AtSlurm:
    """A node as slurmctld has it."""

    states: tuple[str, ...]
    comment: str
    reason: str

    @property
    def drained(self) -> bool:
        """Whether it gets no new jobs."""
        return bool({"DRAIN", "DRAINED", "DRAINING"} & set(self.states))


@dataclass(frozen=True)
class Memory:
    """What a node remembers from one look to the next: how often each check ``failed``, one behind the
    other; the checks of which draining is ``paused``; whether slurmctld may have something of ours
    (``told``); and the Look with which a prolog ``refused`` a job."""

    failed: Mapping[str, int] = field(default_factory=dict)
    paused: tuple[str, ...] = ()
    told: bool = True
    refused: Look | None = None


@dataclass(frozen=True)
class Consequence:
    """What is to be done with the node: the new ``memory``; ``drain`` is the reason of a drain, empty for
    none; ``resume`` ends one; ``comment`` is a new Comment, None where it stays; ``requeue``: its jobs wait
    again. ``said`` are lines for the log."""

    memory: Memory
    drain: str = ""
    resume: bool = False
    comment: str | None = None
    requeue: bool = False
    said: tuple[str, ...] = ()


def reason(result: Look) -> str:
    """The reason of a drain: who is the problem, which check, and what it found."""
    text = f"{PREFIX}{result.blame}: {result.check}: {' '.join(result.detail.split())}"
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"


def check_of(text: str) -> str:
    """The check that the reason ``text`` of a drain of ours names; empty for another's."""
    found = _REASON.match(text)
    return found["check"] if found else ""


def parse(text: str) -> dict[str, AtSlurm]:
    """What SINFO printed; a node of several partitions stands there once for each."""
    nodes: dict[str, AtSlurm] = {}
    for block in text.split(SEPARATOR + "\n"):
        words = block.split(SEPARATOR)
        if len(words) == 4:
            name, states, comment, why = (word.strip() for word in words)
            parts = tuple(re.findall(r"[A-Z_]+", states.upper()))
            nodes[name] = AtSlurm(parts, "" if comment == "(null)" else comment, "" if why == "none" else why)
    return nodes


def failing(node: AtSlurm) -> set[str]:
    """The checks that ``node`` says it fails, by its Comment or the reason of its drain."""
    found = _FAILING.match(node.comment)
    names = set(found["checks"].split(",")) if found else set()
    return names | ({check_of(node.reason)} - {""} if node.drained else set())


def is_widespread(check: str, me: str, nodes: Mapping[str, AtSlurm]) -> bool:
    """Whether half of the cluster or more fails ``check`` at once, this node ``me`` among them: then it is
    rather the check, a server or the network, and drained nodes would help nobody. One node alone is
    none."""
    others = sum(check in failing(seen) for name, seen in nodes.items() if name != me)
    return others >= 1 and (others + 1) * 2 >= len({*nodes, me})


def has_to_ask(results: Sequence[Look], memory: Memory) -> bool:
    """Whether slurmctld has to be asked: where all is well, and nothing of ours is there, it need not."""
    return memory.told or memory.refused is not None or any(each.result == "failed" for each in results)


def plan(
    rules: Sequence[Policy],
    results: Sequence[Look],
    memory: Memory,
    me: str,
    nodes: Mapping[str, AtSlurm] | None,
) -> Consequence:
    """What follows from ``results`` of a look at the node ``me``.

    ``nodes`` are those of slurmctld, None where it was not asked or does not answer: then nothing is done but
    to count. A check without a result in ``results`` keeps its count.
    """
    known = {rule.name: rule for rule in rules}
    failed = dict(memory.failed)
    for each in results:
        if each.result == "failed":
            failed[each.check] = failed.get(each.check, 0) + 1
        elif each.result == "ok":
            failed.pop(each.check, None)
    failed = {name: count for name, count in failed.items() if name in known}
    now = [each for each in results if each.result == "failed" and each.check in known]
    said = [f"{each.check} failed ({each.blame}): {each.detail}" for each in now]
    said += [
        f"{each.check} is broken, which says nothing of the node: {each.detail}"
        for each in results
        if each.result == "broken"
    ]
    if nodes is None:
        asked = has_to_ask(results, memory)
        return Consequence(replace(memory, failed=failed, told=memory.told or asked), said=tuple(said))
    mine = nodes.get(me, AtSlurm((), "", ""))
    # A user's problem is not the node's: the next job of somebody else is not to wait for it.
    draining = [each for each in now if known[each.check].on_fail != "note" and each.blame == "node"]
    paused = tuple(each.check for each in draining if is_widespread(each.check, me, nodes))
    due = [
        each
        for each in draining
        if each.check not in paused and failed[each.check] >= known[each.check].after
    ]
    said += [f"half of the cluster or more fails {name} at once: nobody is drained for it" for name in paused]
    refused = memory.refused if mine.drained and mine.reason.startswith(_PROLOG) else None
    lifted = refused.check if refused else check_of(mine.reason) if mine.drained else ""
    sound = {each.check for each in results if each.result == "ok"}
    drain, resume = "", False
    if not mine.drained:
        drain = reason(due[0]) if due else ""
    elif lifted and (lifted in sound or refused):
        # Ours, and over, or told by Slurm alone: the next reason takes its place, or the drain ends.
        still = due or ([refused] if refused and lifted not in sound else [])
        drain, resume = (reason(still[0]), False) if still else ("", True)
    ours = bool(now or drain) or (mine.drained and bool(lifted) and not resume)
    return Consequence(
        Memory(failed, paused, told=ours, refused=None),
        drain=drain if drain != mine.reason else "",
        resume=resume,
        comment=_comment(mine.comment, [each.check for each in now], paused),
        requeue=bool(drain and due and known[due[0].check].on_fail == "requeue"),
        said=tuple(said),
    )


def _comment(there: str, names: Sequence[str], paused: Sequence[str]) -> str | None:
    """The new Comment; None where it stays: that of somebody else is left alone."""
    if there and not there.startswith(PREFIX):
        return None
    wanted = f"{PREFIX}failing {','.join(names)}" if names else ""
    if paused:
        wanted += f"; half of the cluster fails {','.join(paused)}: draining is paused"
    return wanted if wanted != there else None


def refuses(rules: Sequence[Policy], results: Sequence[Look], paused: Sequence[str]) -> Look | None:
    """The Look for which a prolog refuses its job, None when it may run: a failed check that would drain,
    the node being the problem, and not one that half of the cluster fails."""
    drains = {rule.name for rule in rules if rule.on_fail != "note"}
    return next(
        (
            each
            for each in results
            if each.result == "failed"
            and each.check in drains
            and each.blame == "node"
            and each.check not in paused
        ),
        None,
    )


def may_resume(node: AtSlurm, passed: Sequence[str]) -> bool:
    """Whether the active checks ``passed`` end the drain of ``node``: one of ours, for one of them."""
    return node.drained and check_of(node.reason) in {f"{ACTIVE}{name}" for name in passed}
