"""Work on many things at the same time."""

from __future__ import annotations

import threading

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.run import AT_ONCE, at_once, hand_over


def test_all_are_worked_on_at_the_same_time_and_answer_in_order() -> None:
    together = threading.Barrier(3, timeout=10)

    def work(name: str) -> str:
        together.wait()
        return name.upper()

    assert list(at_once(work, ["b", "c", "a"]).items()) == [("b", "B"), ("c", "C"), ("a", "A")]


def test_the_first_in_order_that_fails_is_raised_when_all_have_ended() -> None:
    ended: list[int] = []

    def work(number: int) -> None:
        ended.append(number)
        if number:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        at_once(work, range(3))
    assert sorted(ended) == [0, 1, 2]


def test_nothing_and_more_than_fits() -> None:
    assert at_once(str, []) == {}
    assert len(at_once(str, range(3 * AT_ONCE))) == 3 * AT_ONCE


def test_a_program_that_is_missing_cannot_be_handed_over_to() -> None:
    with pytest.raises(HpcstateError, match="'no-such-program' is not installed"):
        hand_over(["no-such-program"])
