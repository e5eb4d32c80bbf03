"""The linter against slurmdbd: what stops it is an error, and nothing else is (dbd_cases.py)."""

from __future__ import annotations

import pytest

from hpcstate.errors import Problem
from hpcstate.slurm.lint.conf import lint
from tests.unit.slurm.dbd_cases import cases, digest, recorded

CASES, RECORDED = cases(), recorded()

BEYOND = {
    "host-other": "the name of the host",
    "user-other": "who owns the file",
    "user-unknown": "which users there are",
    "archive-dir-missing": "which folders there are",
    "archive-dir-file": "which folders there are",
    "archive-script-missing": "which programs there are",
    "archive-script-directory": "which programs there are",
    "archive-script-unexec": "which programs there are",
    "auth-info-missing": "which sockets there are",
    "auth-slurm": "which keys there are",
    "auth-jwt": "which packages there are",
    "auth-jwt-alt": "which packages there are",
    "auth-jwt-alt-key": "which packages there are",
    "plugin-dir": "which folders there are",
}
"""What stops slurmdbd and cannot be told from the file: what one would have to know."""

QUIET = {
    "user-none": "who may use the database",
    "backup-is-this": "which hosts there are",
    "backup-same": "which hosts there are",
    "storage-host-other": "which hosts there are",
    "storage-parameters": "which files there are",
    "log-directory": "which folders there are",
    "pid-directory": "which folders there are",
}
"""What is logged only, or keeps slurmdbd waiting for its database, and the linter says nothing of."""


def linted(name: str) -> tuple[Problem, ...]:
    def nothing_beside(included: str) -> str:
        raise FileNotFoundError(included)

    return lint(CASES[name], "slurmdbd", nothing_beside)


def test_every_case_was_recorded_as_it_is() -> None:
    wrong = [name for name in CASES if name not in RECORDED or RECORDED[name].of != digest(CASES[name])]
    assert not wrong, "python -m tests.unit.slurm.dbd_cases ROOT"
    assert RECORDED.keys() == CASES.keys()
    assert sum(RECORDED[name].did == "slurmdbd" for name in CASES) > 70
    assert sum(RECORDED[name].did == "good" for name in CASES) > 45


@pytest.mark.parametrize("name", CASES)
def test_an_error_is_what_stops_slurmdbd(name: str) -> None:
    stops = RECORDED[name].did == "slurmdbd" and name not in BEYOND
    assert any(problem.severity == "error" for problem in linted(name)) == stops, RECORDED[name].words


@pytest.mark.parametrize("name", [name for name in CASES if RECORDED[name].did in ("logged", "waits")])
def test_what_is_only_logged_is_a_warning(name: str) -> None:
    assert bool(linted(name)) == (name not in QUIET), RECORDED[name].words
