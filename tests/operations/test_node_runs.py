"""Slurm's note of what a node runs: made, changed, shortened, left alone."""

from __future__ import annotations

import json
from typing import Any

from hpcstate.node import runs
from operations import node_runs
from tests.operations.harness import Outcome, run

NODE = "compute-01"
PATHS = ("/etc/hosts",)
FOUND = {
    "image": "hpc-base-0f3a5c7e9b1d",
    "files": {"/etc/hosts": "a" * 64},
    "containers": {"torch": "123456789abc"},
}
TOLD = {
    "image": "hpc-base-0f3a5c7e9b1d",
    "configuration": runs.running(FOUND, PATHS)["configuration"],  # type: ignore[arg-type]
    "container.torch": "123456789abc",
}


def note(extra: str | None, **found: Any) -> Outcome:
    facts = {
        "facts.slurm.SlurmNodes": {} if extra is None else {NODE: {"extra": extra}},
        "facts.node_runs.RunsOnNode": {f"paths={PATHS}": {**FOUND, **found}},
    }
    return run(node_runs.note, NODE, PATHS, facts=facts)


def noted(outcome: Outcome) -> Any:
    """The object that the one command tells."""
    (command,) = outcome.commands
    assert isinstance(command, str)
    head, _, text = command.partition(" extra=")
    assert head == "scontrol update nodename=compute-01"
    return json.loads(text.strip("'"))


def test_a_new_node_is_noted() -> None:
    assert noted(note("")) == TOLD


def test_a_second_run_changes_nothing() -> None:
    outcome = note(json.dumps(TOLD))
    assert (outcome.commands, outcome.noops) == ([], ["Slurm has noted what compute-01 runs"])


def test_what_changed_is_noted_beside_the_keys_of_others() -> None:
    assert noted(note(json.dumps({**TOLD, "image": "old-0", "rack": 7}))) == {**TOLD, "rack": 7}


def test_a_container_that_is_gone_is_no_longer_noted() -> None:
    told = noted(note(json.dumps(TOLD), containers={}))
    assert "container.torch" not in told
    assert told["image"] == TOLD["image"]


def test_a_text_of_somebody_else_stays() -> None:
    outcome = note("rack 7")
    assert outcome.commands == []
    assert "scontrol update nodename=compute-01 extra=" in outcome.noops[0]


def test_where_slurmctld_is_silent_nothing_is_noted() -> None:
    outcome = note(None)
    assert outcome.commands == []
    assert "nothing was noted" in outcome.noops[0]
