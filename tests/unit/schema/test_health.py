"""``health`` of a cluster file: what it becomes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.model import HealthSettings
from hpcstate.paths import ROOT

GPU = (ROOT / "inventories" / "gpu.yaml").read_text()
PLACE = "    slurm_config:"
assert GPU.count(PLACE) == 1


def load(folder: Path, health: str, program: str = "#!/bin/sh\nexit 0\n") -> HealthSettings:
    (folder / "mine.sh").write_text(program)
    file = folder / "cluster.yaml"
    file.write_text(GPU.replace(PLACE, f"    health:{health}\n{PLACE}"))
    return schema.load(file).clusters[0].health


def test_off_by_default(tmp_path: Path) -> None:
    assert schema.load(ROOT / "inventories" / "gpu.yaml").clusters[0].health == HealthSettings()
    assert load(tmp_path, " {}") == HealthSettings() and not HealthSettings().on


def test_what_the_file_says(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "\n      enabled: true\n      interval_s: 60\n      node_state: idle, cycle\n      off: [clocks]\n"
        "      note_only: [mounts]\n      own_checks:\n"
        "        - {name: licence, program: mine.sh, on_fail: drain, contexts: [periodic, prolog], after: 3, "
        "timeout_s: 7, states: [idle]}\n        - {name: b, program: mine.sh}",
    )
    assert (found.on, found.interval_s, found.node_state) == (True, 60, ("IDLE", "CYCLE"))
    assert (found.off, found.note_only) == (("clocks",), ("mounts",))
    first, second = found.own
    assert (first.name, first.on_fail, first.contexts, first.after) == (
        "licence",
        "drain",
        ("periodic", "prolog"),
        3,
    )
    assert (first.timeout_s, first.states, first.program) == (7, ("idle",), "#!/bin/sh\nexit 0\n")
    assert (second.contexts, second.on_fail, second.states) == (("periodic",), "note", ())


@pytest.mark.parametrize(
    ("health", "program", "said"),
    [
        (" {enabled: maybe}", "", "expected true or false"),
        (" {interval_s: 5}", "", "a whole number from 30"),
        (" {node_state: BUSY}", "", "words with commas"),
        (" {enabled: true, node_state: NONDRAINED_IDLE}", "", "never be looked at again"),
        (" {enabled: true, node_state: ALLOC}", "", "never be looked at again"),
        (" {off: [clock]}", "", "one of gpu_findings"),
        (" {own_checks: [{name: mounts, program: mine.sh}]}", "#!/bin/sh\n", "there twice"),
        (
            " {own_checks: [{name: a, program: mine.sh}, {name: a, program: mine.sh}]}",
            "#!/bin/sh\n",
            "there twice",
        ),
        (" {own_checks: [{name: ../a, program: mine.sh}]}", "#!/bin/sh\n", "a name of lower-case"),
        (" {own_checks: [{name: a, program: mine.sh}]}", "exit 0\n", "does not begin with #!"),
        (" {own_checks: [{name: a, program: mine.sh}]}", "", "does not begin with #!"),
        (" {own_checks: [{name: a, program: other.sh}]}", "", "No such file"),
        (" {own_checks: [{name: a, program: /dev/zero}]}", "", "no file of at most"),
        (" {own_checks: [{name: a, program: mine.sh}]}", "#!/bin/sh\n" + "#" * 70_000, "at most 64 KiB"),
        (" {own_checks: [{name: a}]}", "", "is missing"),
        (" {own_checks: [{name: a, program: mine.sh, on_fail: reboot}]}", "#!/bin/sh\n", "one of drain"),
        (
            " {own_checks: [{name: a, program: mine.sh, contexts: [always]}]}",
            "#!/bin/sh\n",
            "one of periodic",
        ),
    ],
)
def test_what_cannot_be(tmp_path: Path, health: str, program: str, said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        load(tmp_path, health, program)
    assert said in str(caught.value)


def test_slurms_own_words_are_not_given_twice(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    parameters = "    slurm_config:\n      parameters: {Prolog: /x, HealthCheckProgram: /y}\n"
    text = GPU.replace(PLACE, f"    health: {{enabled: true}}\n{PLACE}")
    assert "parameters:" not in text
    file.write_text(text.replace("    slurm_config:\n", parameters, 1))
    with pytest.raises(ProblemsError, match="HealthCheckProgram, Prolog too"):
        schema.load(file)
    file.write_text(GPU.replace("    slurm_config:\n", parameters, 1))
    assert not schema.load(file).clusters[0].health.on
