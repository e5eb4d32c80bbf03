"""The linter's cases with the daemons of the built image: they do what was recorded.

All of them take some minutes: every tenth is asked here.
``python -m tests.unit.slurm.daemon_cases --all`` asks about each one, and writes down what is new.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.slurm.daemon_cases import ask, cases, recorded, root_of_image

CASES = cases()


@pytest.fixture(scope="module")
def root() -> Path:
    return root_of_image()


@pytest.mark.parametrize("name", list(CASES)[::10])
def test_the_daemons_do_what_was_recorded(name: str, root: Path) -> None:
    outcome = ask(CASES[name], root)
    assert outcome.did == recorded()[name].did, outcome.words
