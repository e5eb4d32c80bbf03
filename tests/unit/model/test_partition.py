"""A partition: times in Slurm's notation."""

from __future__ import annotations

import math

import pytest

from hpcstate.model.partition import minutes


@pytest.mark.parametrize(
    ("time", "found"),
    [
        ("0", 0),
        ("90", 90),
        ("90:30", 90.5),
        ("1:30:00", 90),
        ("24:00:00", 1440),
        ("2-0", 2880),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("1-12:30:30", 2190.5),
        ("INFINITE", math.inf),
        ("UNLIMITED", math.inf),
    ],
)
def test_the_minutes_of_a_time(time: str, found: float) -> None:
    assert minutes(time) == found
