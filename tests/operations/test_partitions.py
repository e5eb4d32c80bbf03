"""Partitions that somebody changed are named, and left alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from operations import partitions
from tests.operations.harness import Outcome, run

FILES = {"slurm.conf": "PartitionName=gpu Nodes=n1 MaxTime=60\n"}
UP = {"gpu": {"State": "UP", "MaxTime": "01:00:00"}}
DOWN = {"gpu": {"State": "DOWN", "MaxTime": "01:00:00"}}


def named(found: Mapping[str, Mapping[str, str]], current: Mapping[str, str] = FILES) -> Outcome:
    facts = {
        "facts.partitions.SlurmPartitions": found,
        "facts.slurm.SlurmFiles": {"directory=/etc/slurm": dict(current)},
    }
    return run(partitions.named, FILES, "controller", facts=facts)


@pytest.mark.parametrize(
    ("found", "current", "said"),
    [
        (UP, FILES, False),
        (DOWN, FILES, True),
        ({}, FILES, False),
        (DOWN, {"slurm.conf": "PartitionName=gpu Nodes=n1\n"}, False),
        (DOWN, {}, False),
    ],
    ids=["as it should be", "down", "slurmctld is silent", "other files are due", "none is there yet"],
)
def test_one_that_is_otherwise_is_named(
    found: Mapping[str, Mapping[str, str]],
    current: Mapping[str, str],
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(partitions, "name_once", lambda _, text: lines.append(text))
    outcome = named(found, current)
    assert outcome.commands == []
    assert [line.split(" since")[0] for line in lines] == (["partition gpu has State=DOWN"] if said else [])
