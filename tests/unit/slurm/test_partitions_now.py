"""Partitions that somebody changed by scontrol."""

from __future__ import annotations

import pytest

from hpcstate.slurm.partitions_now import strange

CONF = """\
# PartitionName=old Nodes=a
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=1:00:00 DefaultTime=60 State=UP
PartitionName=debug Nodes=n1 MaxTime=INFINITE AllowGroups=a,b AllowQOS=high
"""
SOUND = {
    "gpu": {
        "State": "UP",
        "MaxTime": "01:00:00",
        "DefaultTime": "01:00:00",
        "AllowGroups": "ALL",
        "Nodes": "n[1-2]",
    },
    "debug": {
        "State": "UP",
        "MaxTime": "UNLIMITED",
        "AllowGroups": "b,a",
        "AllowQos": "HIGH",
        "PriorityTier": "1",
    },
}


def test_other_words_for_the_same_are_the_same() -> None:
    assert strange(CONF, SOUND, "controller") == []


def test_one_that_slurmctld_has_not_is_not_compared() -> None:
    assert strange(CONF, {}, "controller") == []


@pytest.mark.parametrize(
    ("name", "key", "value", "back"),
    [
        ("gpu", "State", "DOWN", "State=UP"),
        ("debug", "State", "INACTIVE", "State=UP"),
        ("gpu", "MaxTime", "00:05:00", "MaxTime=1:00:00"),
        ("gpu", "DefaultTime", "NONE", "DefaultTime=60"),
        ("debug", "MaxTime", "1-00:00:00", "MaxTime=INFINITE"),
        ("debug", "AllowGroups", "a", "AllowGroups=a,b"),
        ("debug", "AllowQos", "ALL", "AllowQos=high"),
    ],
)
def test_what_is_otherwise_is_named_with_the_way_back(name: str, key: str, value: str, back: str) -> None:
    (line,) = strange(CONF, {**SOUND, name: {**SOUND[name], key: value}}, "controller")
    assert line == (
        f"partition {name} has {key}={value} since somebody changed it by scontrol. When that is over, on "
        f"controller: sudo scontrol update partitionname={name} {back}"
    )


def test_an_attribute_that_slurm_conf_leaves_out_is_not_compared() -> None:
    assert strange(CONF, {**SOUND, "debug": {**SOUND["debug"], "PriorityTier": "9"}}, "controller") == []
