"""A node that got slower is found, one that is as noisy as ever is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstate.health.past import LEAST, good, judge


def runs(count: int, noise: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [100 * (1 + chance.gauss(0, noise)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
def test_a_fifth_slower_is_found_and_a_twentieth_is_not(noise: float, seed: int) -> None:
    past = runs(12, noise, seed)
    found = judge(80, past, unit="GB/s")
    assert not found.sound and "20 % slower" in judge(80, runs(12, 0.0)).detail
    assert judge(95, past).sound and judge(100, past).sound and judge(130, past).sound


@pytest.mark.parametrize("seed", range(20))
def test_what_is_noisy_by_itself_is_not_accused(seed: int) -> None:
    *past, last = runs(21, 0.08, seed)
    assert judge(last, past).sound
    assert not judge(40, past).sound


def test_a_short_past_accuses_nobody() -> None:
    assert judge(1, runs(LEAST - 1, 0.0)).sound and not judge(1, runs(LEAST, 0.0)).sound
    assert "too few" in judge(1, []).detail


def test_a_slow_run_is_not_learnt() -> None:
    history = [(100.0, True)] * 6
    for _ in range(30):
        history.append((80.0, judge(80, good(history)).sound))
    assert not history[-1][1]
    # A better machine is the new measure after some runs.
    for _ in range(25):
        history.append((130.0, judge(130, good(history)).sound))
    assert history[-1][1] and not judge(100, good(history)).sound


@given(st.lists(st.floats(0.1, 1e6), max_size=40))
def test_its_own_median_is_always_sound(past: list[float]) -> None:
    from statistics import median

    assert judge(median(past[-20:]) if past else 1.0, past).sound
