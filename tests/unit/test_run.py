"""Work on many things at the same time."""

from __future__ import annotations

import threading
import time

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.run import AT_ONCE, at_once, hand_over


def test_all_are_worked_on_at_the_same_time_and_answer_in_order() -> None:
    together = threading.Barrier(3, timeout=60)

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


@pytest.mark.parametrize(
    ("said", "held", "shown"),
    [
        ("plain\n", "", "plain\n"),
        ("@@", "", "@@"),
        ("@@x", "", "@@x"),
        ("a @@@", "", "a @@@"),
        ("@@@ warning\nmore\n", "@@@ warning\nmore\n", ""),
        ("", "", ""),
    ],
)
def test_what_begins_so_is_held_and_all_else_passes(
    said: str, held: str, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    slowly = 'for word in "$@"; do printf %s "$word" >&2; sleep 0.02; done; exit 3'
    words = ["sh", "-c", slowly, "sh", *([said[:1], said[1:]] if said else [])]
    assert hand_over(words, hold="@@@") == (3, held)
    assert capfd.readouterr().err == shown


def test_what_a_program_left_behind_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcstate.run._LAST_WORDS_SECONDS", 0.1)
    begun = time.monotonic()
    assert hand_over(["sh", "-c", "sleep 5 & exit 0"], hold="@@@") == (0, "")
    assert time.monotonic() - begun < 4


def test_a_program_that_is_missing_cannot_be_handed_over_to() -> None:
    with pytest.raises(HpcstateError, match="'no-such-program' is not installed"):
        hand_over(["no-such-program"], hold="@@@")
