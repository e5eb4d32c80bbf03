"""Slurm's hostlist expressions: ``compute-[01-03,07]`` for a run of names or addresses.

The notation is that of slurm.conf(5), NodeName: one bracket per name here, because that is all we write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from hpcstate.errors import HpcstateError

_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)$")
_BRACKETED = re.compile(r"^(?P<prefix>[^\[\]]*)\[(?P<ranges>[0-9,-]+)\](?P<suffix>[^\[\]]*)$")


def compress(names: Sequence[str]) -> str:
    """One hostlist expression for ``names``, in their order: expanding it gives ``names`` again."""
    runs = groupby(map(_split, names), lambda split: (split[0], bool(split[1])))
    return ",".join(_bracket(prefix, [number for _, number in run]) for (prefix, _), run in runs)


def expand(expression: str) -> tuple[str, ...]:
    """The names of a hostlist ``expression``, in the order they are written.

    Raises HpcstateError for a bracket that is not closed, nested or not made of numbers.
    """
    names: list[str] = []
    for part in _split_at_commas(expression):
        names.extend(_expand_part(part))
    return tuple(names)


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


def _split_at_commas(expression: str) -> Iterable[str]:
    part, depth = "", 0
    for character in expression:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            yield part
            part = ""
        else:
            part += character
    if part:
        yield part


def _expand_part(part: str) -> Iterable[str]:
    if "[" not in part and "]" not in part:
        yield part
        return
    found = _BRACKETED.match(part)
    if found is None:
        raise HpcstateError(f"{part!r} is not a hostlist expression", hint="write it as compute-[01-04,07]")
    for bounds in found["ranges"].split(","):
        low, _, high = bounds.partition("-")
        for number in range(int(low), int(high or low) + 1):
            yield f"{found['prefix']}{str(number).zfill(len(low))}{found['suffix']}"
