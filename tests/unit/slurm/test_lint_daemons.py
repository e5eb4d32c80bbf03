"""The linter against Slurm's daemons: what stops one is an error, and nothing else is.

The daemons were asked (daemon_cases.py); tests/images/test_lint_in_image.py asks those of the present image.
"""

from __future__ import annotations

from functools import cache

import pytest

from hpcstate.errors import Problem
from hpcstate.slurm.lint.together import lint_files
from tests.unit.slurm.daemon_cases import cases, digest, recorded

CASES, RECORDED = cases(), recorded()

BEYOND = {
    "plugindir-missing": "which folders there are",
    "slurm-user": "which users there are",
    "slurmd-user": "which users there are",
    "helpers-user": "which users there are",
    "plugin-jobcomp-mysql": "whether a database answers",
    "plugin-jobcomp-script-missing": "which programs there are",
    "plugstack": "plugstack.conf is not linted",
    "s-restricted-shared": "the gres.conf of the node, which is not given",
    "node-gres-count-word": "the gres.conf of the node, which is not given",
    "field-gres-socket": "the gres.conf of the node, which is not given",
    "field-gres-space": "the gres.conf of the node, which is not given",
    "field-gres-mig": "the gres.conf of the node, which is not given",
    "field-jwt-no-file": "which packages there are: it is in one of its own",
    "field-gather-profile": "which packages there are: it is in one of its own",
    "field-gather-energy-ipmi": "which packages there are: it is in one of its own",
    "field-gather-hdf5": "which packages there are: it is in one of its own",
}
"""What stops a daemon and cannot be told from the files: what one would have to know."""

UNSEEN = {
    "cgroup-disabled-task": "src/plugins/task/cgroup/task_cgroup.c, init",
    "cgroup-disabled-proctrack": "src/interfaces/cgroup.c, cgroup_g_initialize",
}
"""What stops slurmd, by its source, and not here: a throwaway root has no control groups (judge/case.py)."""

QUIET = {
    "plugin-switch-imex": "the machine",
    "plugin-energy-rapl": "the machine",
    "allow-groups": "which groups there are",
    "s-bare-energy": "the machine",
    "s-bare-burst": "the machine",
    "s-energy-two": "the machine",
    "s-primary-prog": "which programs there are",
    "m-spool-percent": "the machine",
    "core-spec-socket-two": "the machine",
    "core-spec-socket-allowed": "the machine",
    "helpers-good": "the machine",
    "helpers-node": "the machine",
    "w-b33": "the machine",
    "w-b35": "the machine",
    "w-b3": "the types are taken away, the devices work",
    "gres-fewer-fpga-file": "the node works with less",
    "gres-type-missing-in-slurm": "the type is taken away, the devices work",
    "gres-autodetect-other-node": "the machine",
    "field-cpus-cores": "the machine",
    "field-helpers-mig": "which programs there are",
    "field-helpers-mutual": "which programs there are",
}
"""What is logged only, and the linter says nothing of."""


@cache
def linted(name: str) -> tuple[Problem, ...]:
    found = (problem for some in lint_files(CASES[name]).values() for problem in some)
    # What the daemons log of it is not of the case (daemon_cases.py), nor is this.
    return tuple(problem for problem in found if "no partition is the default" not in problem.message)


def is_error(name: str) -> bool:
    return any(problem.severity == "error" for problem in linted(name))


def test_every_case_was_recorded_as_it_is() -> None:
    wrong = [name for name in CASES if name not in RECORDED or RECORDED[name].of != digest(CASES[name])]
    assert not wrong, "python -m tests.unit.slurm.daemon_cases"
    assert RECORDED.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_error_is_what_stops_a_daemon(name: str) -> None:
    expected = name in UNSEEN or (RECORDED[name].stops and name not in BEYOND)
    assert is_error(name) == expected, RECORDED[name].words


@pytest.mark.parametrize("name", [name for name in CASES if RECORDED[name].did == "logged"])
def test_what_is_only_logged_is_a_warning(name: str) -> None:
    assert bool(linted(name)) == (name not in QUIET), RECORDED[name].words


def test_the_figures() -> None:
    """95 of 100 files that stop a daemon are named, with those of BEYOND; no good file is called wrong."""
    stop = [name for name in CASES if RECORDED[name].stops or name in UNSEEN]
    named = [name for name in stop if is_error(name)]
    good = [name for name in CASES if name not in stop]
    false_alarms = [name for name in good if is_error(name)]
    print(
        f"{len(named)} of {len(stop)} files that stop a daemon; {len(false_alarms)} false of {len(good)} good"
    )
    assert len(named) >= 0.95 * len(stop)
    assert not false_alarms
    assert len(stop) > 250
    assert len(good) > 250
