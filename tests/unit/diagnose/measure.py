"""How well the rules read logs that nobody of hpcstate wrote: macro-F1 and the confusion table of the
samples.

``python -m tests.unit.diagnose.measure [dev|test]`` prints them. A sample is an excerpt of a public thread
or document (its name is in its first line) with the cause that its own resolution, a maintainer or its
reporter gave; "message" where the thread has none and the message itself is all there is. Samples are
short, of programs' own messages; threads of GitHub are of their authors, under GitHub's terms.

The halves are not of one draw: dev was there when the rules were written, test was collected after they
were committed, from other threads, and is read by nothing but this (docs/diagnosis.md has the figures of
that day)."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.diagnose.decide import diagnose
from hpcstate.diagnose.lines import of_text

FOLDER = Path(__file__).with_name("samples")


@dataclass(frozen=True)
class Sample:
    """An excerpt of ``source``, and the ``cause`` that it is known to have; ``by`` whom."""

    cause: str
    source: str
    by: str
    text: str


def samples(name: str) -> list[Sample]:
    """The samples of a half."""
    parts = re.split(r"^=== ", (FOLDER / f"{name}.txt").read_text(encoding="utf-8"), flags=re.M)[1:]
    found = []
    for part in parts:
        head, _, text = part.partition("\n")
        cause, source, by = (word.strip() for word in head.split("|"))
        found.append(Sample(cause, source, by, text))
    return found


def said(sample: Sample) -> str:
    """What the rules say; of a log without anything in it "none" is not told from "unknown"."""
    name = diagnose(of_text(sample.text, "log")).cause.name
    return "none" if name == "unknown" and sample.cause == "none" else name


def table(rows: Sequence[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """How often each cause was called each."""
    return Counter(rows)


def macro_f1(rows: Sequence[tuple[str, str]]) -> float:
    """The mean of F1 over the causes that samples have; ``rows`` are (right, said)."""
    names = sorted({right for right, _ in rows})
    scores = []
    for name in names:
        hit = sum(right == name == told for right, told in rows)
        wrong = sum(told == name != right for right, told in rows)
        missed = sum(right == name != told for right, told in rows)
        scores.append(2 * hit / (2 * hit + wrong + missed))
    return sum(scores) / len(scores)


def main(names: Sequence[str]) -> int:
    """Print the figures of the halves ``names``, and what was called something else."""
    for name in names or ("dev", "test"):
        found = samples(name)
        rows = [(sample.cause, said(sample)) for sample in found]
        right = sum(a == b for a, b in rows)
        share = f"right {right} ({right / len(rows):.1%})"
        print(f"{name}: {len(rows)} samples, macro-F1 {macro_f1(rows):.3f}, {share}")
        for (cause, told), count in sorted(table(rows).items()):
            print(f"  {cause:<20} {told:<20} {count:3}{'' if cause == told else '  <'}")
        for sample, (cause, told) in zip(found, rows, strict=True):
            if cause != told and name == "dev":
                print(f"  {sample.source}: {cause} was called {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
