"""Slurm's hostlist expressions: ``compute-[01-03,07]`` for a run of names or addresses.

The notation is that of slurm.conf(5), NodeName. What we write has one bracket a name; what others wrote is
read as Slurm does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from hpcstate.errors import HpcstateError

_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)$")
_RANGE = re.compile(r"(?P<first>[ +]*(?P<low>[0-9]{1,19})(?: +(?=-))?)(?:-(?: *(?P<high>[0-9]{1,19}))?)?")
_HINT = "write it as compute-[01-04,07]"
_SEPARATORS = "\t ,\n"

MAX_RANGE = 64 * 1024
"""How many numbers Slurm expands a range to (src/common/hostlist.c, MAX_RANGE)."""


def compress(names: Sequence[str]) -> str:
    """One hostlist expression for ``names``, in their order: expanding it gives ``names`` again."""
    runs = groupby(map(_split, names), lambda split: (split[0], bool(split[1])))
    return ",".join(_bracket(prefix, [number for _, number in run]) for (prefix, _), run in runs)


def expand(expression: str) -> tuple[str, ...]:
    """The names of a hostlist ``expression``, in the order in which Slurm has them (src/common/hostlist.c,
    tried with `scontrol show hostnames`): of several brackets in a name the last one counts first.

    Raises HpcstateError for an expression that Slurm refuses: a bracket that is not closed, a range that is
    empty, counts down, is not made of numbers, or has more than :data:`MAX_RANGE` numbers.
    """
    names: list[str] = []
    for word in _words(expression):
        names.extend(_expand_word(word))
    return tuple(names)


def refusal(expression: str) -> str:
    """Why Slurm refuses a hostlist ``expression`` (``2-1 counts down``), empty where it takes it."""
    for word in _words(expression):
        before, bracket, behind = word.rpartition("[")
        inside, closed, _ = behind.partition("]")
        if bracket and not closed:
            return "a bracket is not closed"
        lists = [inside] if bracket else []
        while bracket:
            before, bracket, behind = before.rpartition("[")
            inside, closed, _ = behind.rpartition("]")
            # What is before a bracket that has no end is a name as it is (_push_range_list).
            if not bracket or not closed:
                break
            lists.append(inside)
        for part in ",".join(reversed(lists)).split(",") if lists else ():
            if why := _range_refusal(part):
                return f'"{part}" {why}'
    return ""


def ranges(numbers: Iterable[int]) -> str:
    """``numbers`` as Slurm writes a list of CPUs or cores: ``0-3,8``."""
    return ",".join(_runs([str(number) for number in sorted(numbers)]))


def numbers(text: str) -> list[int]:
    """The numbers of a list like ``0,4-6``, as Linux and libvirt write sets of CPUs; none of an empty one."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return [number for low, _, high in ends for number in range(int(low), int(high or low) + 1)]


def _split(name: str) -> tuple[str, str]:
    found = _NUMBERED.match(name)
    return (found["prefix"], found["number"]) if found else (name, "")


def _bracket(prefix: str, numbers: Sequence[str]) -> str:
    if not numbers[0]:
        return ",".join([prefix] * len(numbers))
    if len(numbers) == 1:
        return prefix + numbers[0]
    return f"{prefix}[{','.join(_runs(numbers))}]"


def _runs(numbers: Sequence[str]) -> list[str]:
    runs: list[list[str]] = []
    for number in numbers:
        if runs and _follows(runs[-1][-1], number):
            runs[-1].append(number)
        else:
            runs.append([number])
    return [run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]


def _follows(before: str, number: str) -> bool:
    """Whether counting on from ``before`` writes exactly ``number``: ``09`` and ``9`` then ``10``."""
    return str(int(before) + 1).zfill(len(before)) == number


def _words(expression: str) -> Iterable[str]:
    """The words of ``expression``: commas and white space part them outside of brackets (_next_tok)."""
    word, depth = "", 0
    for character in expression:
        depth += (character == "[") - (character == "]")
        if character in _SEPARATORS and depth <= 0:
            yield from [word] if word else []
            word = ""
        else:
            word += character
    if word:
        yield word


def _expand_word(word: str) -> Iterable[str]:
    """hostlist_create_dims: the last bracket counts within what is before it (_push_range_list)."""
    before, bracket, behind = word.rpartition("[")
    if not bracket:
        return [word]
    inside, closed, after = behind.partition("]")
    if not closed:
        raise HpcstateError(
            f"{word!r} is no hostlist expression: a bracket is not closed",
            hint="write it as compute-[01-04,07]",
        )
    numbers = [number for part in inside.split(",") for number in _numbers(part, word)]
    return [f"{prefix}{number}{after}" for prefix in _prefixes(before, word) for number in numbers]


def _prefixes(prefix: str, word: str) -> list[str]:
    """What brackets of ``prefix`` stand for, the first one counting first."""
    before, bracket, behind = prefix.rpartition("[")
    inside, closed, after = behind.rpartition("]")
    if not bracket or not closed:
        return [prefix]
    numbers = [number for part in inside.split(",") for number in _numbers(part, word)]
    return [made for number in numbers for made in _prefixes(f"{before}{number}{after}", word)]


def _numbers(part: str, word: str) -> Iterable[str]:
    """The numbers of one range, as wide as the first of them is written (_parse_single_range)."""
    found = _RANGE.fullmatch(part)
    if found is None or _range_refusal(part):
        raise _refused(part, word, _range_refusal(part))
    low, high = int(found["low"]), int(found["high"] or found["low"])
    width = len(found["first"])
    return (str(number).zfill(width) for number in range(low, high + 1))


def _range_refusal(part: str) -> str:
    found = _RANGE.fullmatch(part)
    if found is None:
        return "is no range of numbers"
    low, high = int(found["low"]), int(found["high"] or found["low"])
    if high < low:
        return "counts down"
    return f"has more than {MAX_RANGE} numbers" if high - low >= MAX_RANGE else ""


def _refused(part: str, word: str, why: str) -> HpcstateError:
    return HpcstateError(f"{word!r} is no hostlist expression: {part!r} {why}", hint=_HINT)
