"""Is a node as fast as it was, and as fast as its peers? Pure.

A benchmark's figure says nothing by itself: the same machine gives the same one only within a spread, and
another model another one. So a node is held against its own last runs, by their median and their spread.
Standard library only: it runs on nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

KEPT = 20
"""How many of its last good runs a node is held against."""

LEAST = 4
"""Fewer runs say nothing about a spread."""

SLOWER = 0.15
"""What share slower than its median is too slow, where the spread is small: 20 % is found, 10 % is not."""

SPREADS = 5.0
"""And how many times its usual spread: a disk that others share is off by a tenth from run to run."""

_NORMAL = 1.4826
"""The spread of a normal distribution by the median of its absolute deviations."""


@dataclass(frozen=True)
class Comparison:
    """Whether a figure is ``sound``, and why not, or what it was held against."""

    sound: bool
    detail: str


def judge(value: float, past: Sequence[float], *, unit: str = "") -> Comparison:
    """Whether ``value`` (more is better) is what a node with the ``past`` figures gives, the oldest first.

    Too slow is a figure that is more than SLOWER below the median, and by more than SPREADS spreads. A change
    that stays is not learnt: only good runs count as past (``good``).
    """
    recent = list(past)[-KEPT:]
    shown = f"{value:.4g}{' ' + unit if unit else ''}"
    if len(recent) < LEAST:
        return Comparison(True, f"{shown}; {len(recent)} runs before it, too few to compare")
    usual = median(recent)
    spread = _NORMAL * median(abs(each - usual) for each in recent)
    low = usual - max(SLOWER * usual, SPREADS * spread)
    compared = f"{shown}, usually {usual:.4g} ± {spread:.2g}"
    if value < low:
        return Comparison(False, f"{compared}: {100 * (1 - value / usual):.0f} % slower than its own past")
    return Comparison(True, compared)


def good(runs: Sequence[tuple[float, bool]]) -> list[float]:
    """The figures of the runs that were sound: what was too slow once must not become the measure."""
    return [value for value, sound in runs if sound]
