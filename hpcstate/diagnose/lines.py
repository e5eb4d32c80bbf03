"""The lines of logs: what a terminal's control sequences, progress bars and launchers add to them is taken
off, what they tell (time, node, rank) is kept. Pure; standard library only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

Source = Literal["job", "kernel", "slurm", "events", "record"]
"""job: its output. kernel: a node's. slurm: slurmd's log on a node. events: prolog and epilog. record:
sacct."""

LONGEST = 2000
"""Characters of a line that are kept; what is behind is no message."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""Control sequences and operating system commands of a terminal (ECMA-48, 5.4; xterm's OSC)."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BAR = re.compile(r"\d+%\|[^|]*\|[^\[]*\[[^\]]*\]?")
"""tqdm's bar: ``12%|█▏   | 3/25 [00:01<00:09, 2.3it/s]``."""

TRIGGER = re.compile(
    r"error|exception|traceback|fatal|fail|kill|abort|signal|cancel|denied|no such|not found|cannot|can't|"
    r"could not|unable|timed? ?out|terminat|out of|xid|no space|quota|unbekannt|refused|reset by|stale|"
    r"assert|segv|panic|corrupt|unreachable|in use|warn:|nccl warn|exit|oom|unavailable|invalid",
    re.I,
)
"""What a line has that a rule may want: what a reader of a large file keeps (collect.py has the same)."""


@dataclass(frozen=True)
class LogLine:
    """A line of ``source``: its ``text`` without what belongs to terminals and launchers, and its place.

    ``path`` and ``number`` (from 1; 0: not known) say where it is, ``node`` whose it is, ``rank`` which task
    wrote it, ``time`` seconds since 1970 (of the line itself); each None or empty where nothing tells.
    """

    text: str
    source: Source = "job"
    path: str = ""
    number: int = 0
    node: str = ""
    rank: int | None = None
    time: float | None = None

    @property
    def place(self) -> str:
        """``file:line``, with the node where it is known."""
        place = f"{self.path}:{self.number}" if self.number else self.path
        return f"{self.node} {place}".strip() if self.node else place


def clean(raw: str) -> list[str]:
    """The texts that a line of a file shows: without control sequences; of one that was written over again
    and again (``\\r``) what stood last, and each that may be a message."""
    pieces = [_CONTROL.sub("", piece) for piece in _ANSI.sub("", raw).rstrip("\r\n").split("\r")]
    kept = [piece for piece in pieces[:-1] if TRIGGER.search(_BAR.sub("", piece))]
    texts = [_BAR.sub("", piece).strip("\n") if TRIGGER.search(piece) else piece for piece in kept]
    last = pieces[-1]
    if TRIGGER.search(_BAR.sub("", last)):
        last = _BAR.sub("", last)
    return [text[:LONGEST].rstrip() for text in (*texts, last) if text.strip()] or [""]


_LABELS: Sequence[re.Pattern[str]] = (
    re.compile(r"^\[\d+,(?P<rank>\d+)\]<std(?:out|err)>:\s?"),  # mpirun --tag-output
    re.compile(
        r"^\[(?:rank|default|torchelastic)(?P<rank>\d+)\]:\s?"
    ),  # PyTorch 2.2's prefix; torchrun --tee
    re.compile(r"^(?:\[(?P<node>[\w.-]+)\]: )?\[rank(?P<rank>\d+)\]:\s?"),
)
_SRUN_LABEL = re.compile(r"^ {0,6}(?P<rank>\d{1,6}): ")
"""srun --label."""

_RANK_WITHIN = re.compile(r"\[(?:PG [^\]]*?)?Rank (?P<rank>\d+)\]", re.I)

_TIMES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"(\d{4}-\d\d-\d\d)[T_ ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?"), "%Y-%m-%d %H:%M:%S"),
)


def stamped(text: str) -> float | None:
    """The time at the head of a line, in seconds since 1970, read as UTC; None where there is none. Only
    differences of times of one log mean something: a job writes its node's local time."""
    head = text[:60]
    for pattern, form in _TIMES:
        if found := pattern.search(head):
            try:
                at = datetime.strptime(f"{found[1]} {found[2]}", form).replace(tzinfo=UTC)
            except ValueError:
                continue
            return at.timestamp() + (float(f"0.{found[3]}") if found[3] else 0)
    return None


def of_job(rows: Iterable[tuple[int, str]], path: str, node: str = "") -> list[LogLine]:
    """The numbered ``rows`` of a job's output as lines."""
    texts = [(number, text) for number, raw in rows for text in clean(raw)]
    labelled = _has_labels([text for _, text in texts])
    lines = []
    for number, text in texts:
        line = LogLine(text, "job", path, number, node, time=stamped(text))
        lines.append(_unlabelled(line, labelled))
    return lines


def _has_labels(texts: Sequence[str]) -> bool:
    """Whether these were written by ``srun --label``: most lines have one, of two tasks at least."""
    labels = Counter(found["rank"] for text in texts if (found := _SRUN_LABEL.match(text)))
    return len(labels) > 1 and sum(labels.values()) * 2 > len(texts)


def _unlabelled(line: LogLine, labelled: bool) -> LogLine:
    text, rank = line.text, line.rank
    for pattern in (*((_SRUN_LABEL,) if labelled else ()), *_LABELS):
        if found := pattern.match(text):
            text, rank = text[found.end() :], int(found["rank"])
    if rank is None and (found := _RANK_WITHIN.search(text)):
        rank = int(found["rank"])
    return line if text is line.text and rank is None else replace(line, text=text, rank=rank)


def of_text(text: str, path: str = "", node: str = "") -> list[LogLine]:
    """The lines of a whole ``text`` of a job."""
    return of_job(enumerate(text.split("\n"), 1), path, node)
