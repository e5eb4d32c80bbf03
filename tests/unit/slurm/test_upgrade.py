"""Whether the tables of accounting go with the slurmdbd that is installed; as 24.11.5 says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcstate.paths import ROOT
from hpcstate.probe.tables import TablesState
from hpcstate.slurm.upgrade import TablesStep, step

CASES = ROOT / "tests" / "facts" / "accounting.Tables"


def recorded(name: str) -> TablesState:
    """What the fact was in a case of tests/facts."""
    found: TablesState = json.loads(Path(CASES / f"{name}.json").read_text())["fact"]
    return found


@pytest.mark.parametrize("name", ["normal", "absent", "absent_silent"])
def test_nothing_to_do(name: str) -> None:
    assert step(recorded(name)) == TablesStep("nothing")


def test_a_conversion() -> None:
    assert step(recorded("normal_due")) == TablesStep("convert", old=15, new=16)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("normal_newer", "(version 99) are of a newer Slurm"),
        ("normal_too_old", "(version 12) are too old"),
        ("quoting", "ended with 1, and it is not known"),
    ],
)
def test_what_is_never_started(name: str, words: str) -> None:
    found = step(recorded(name))
    assert (found.kind, words in found.reason) == ("refuse", True)


def test_an_empty_database_by_the_words_of_slurmdbd() -> None:
    """What -u says of one (24.11.5); it is not asked where there are no tables."""
    said = "Slurm Database is somehow higher than expected '4294967294' but I only know as high as '16'."
    state = TablesState(answers=True, there=False, version=0, code=1, said=said)
    assert step(state).kind == "nothing"
    assert step({**state, "there": True}).kind == "refuse"
