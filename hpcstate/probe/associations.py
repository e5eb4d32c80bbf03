"""Who may use how much of a Slurm cluster: accounts, users, QOS and associations, as slurmdbd has them.

Written against sacctmgr 24.11 (data_parser v0.0.42), whose JSON is the same for every limit of a kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

ASSOCIATION_PLACES: Mapping[str, str] = {
    "Fairshare": "shares_raw",
    "GrpJobs": "max/jobs/per/count",
    "GrpJobsAccrue": "max/jobs/per/accruing",
    "GrpSubmitJobs": "max/jobs/per/submitted",
    "GrpTRES": "max/tres/total",
    "GrpTRESMins": "max/tres/group/minutes",
    "GrpTRESRunMins": "max/tres/group/active",
    "GrpWall": "max/per/account/wall_clock",
    "MaxJobs": "max/jobs/active",
    "MaxJobsAccrue": "max/jobs/accruing",
    "MaxSubmitJobs": "max/jobs/total",
    "MaxTRESMinsPerJob": "max/tres/minutes/per/job",
    "MaxTRESPerJob": "max/tres/per/job",
    "MaxTRESPerNode": "max/tres/per/node",
    "MaxWall": "max/jobs/per/wall_clock",
    "MinPrioThres": "min/priority_threshold",
    "Priority": "priority",
    "DefaultQOS": "default/qos",
    "QosLevel": "qos",
}
"""sacctmgr's word for what an association may have, and where its JSON has it
(src/plugins/data_parser/v0.0.42/parsers.c, ASSOC)."""

QOS_PLACES: Mapping[str, str] = {
    "Description": "description",
    "Flags": "flags",
    "GraceTime": "limits/grace_time",
    "GrpJobs": "limits/max/active_jobs/count",
    "GrpJobsAccrue": "limits/max/active_jobs/accruing",
    "GrpSubmitJobs": "limits/max/jobs/count",
    "GrpTRES": "limits/max/tres/total",
    "GrpTRESMins": "limits/max/tres/minutes/total",
    "GrpTRESRunMins": "limits/max/tres/minutes/per/qos",
    "GrpWall": "limits/max/wall_clock/per/qos",
    "LimitFactor": "limits/factor",
    "MaxJobsPerAccount": "limits/max/jobs/active_jobs/per/account",
    "MaxJobsPerUser": "limits/max/jobs/active_jobs/per/user",
    "MaxSubmitJobsPerAccount": "limits/max/jobs/per/account",
    "MaxSubmitJobsPerUser": "limits/max/jobs/per/user",
    "MaxTRESMinsPerJob": "limits/max/tres/minutes/per/job",
    "MaxTRESPerAccount": "limits/max/tres/per/account",
    "MaxTRESPerJob": "limits/max/tres/per/job",
    "MaxTRESPerNode": "limits/max/tres/per/node",
    "MaxTRESPerUser": "limits/max/tres/per/user",
    "MaxTRESRunMinsPerAccount": "limits/max/tres/minutes/per/account",
    "MaxTRESRunMinsPerUser": "limits/max/tres/minutes/per/user",
    "MaxWall": "limits/max/wall_clock/per/job",
    "MinTRESPerJob": "limits/min/tres/per/job",
    "Preempt": "preempt/list",
    "PreemptMode": "preempt/mode",
    "Priority": "priority",
    "UsageFactor": "usage_factor",
    "UsageThreshold": "usage_threshold",
}
"""The same of a QOS (parsers.c, QOS)."""

_FLAGS: Mapping[str, str] = {
    "PARTITION_MINIMUM_NODE": "PartitionMinNodes",
    "PARTITION_MAXIMUM_NODE": "PartitionMaxNodes",
    "PARTITION_TIME_LIMIT": "PartitionTimeLimit",
    "ENFORCE_USAGE_THRESHOLD": "EnforceUsageThreshold",
    "NO_RESERVE": "NoReserve",
    "REQUIRED_RESERVATION": "RequiresReservation",
    "DENY_LIMIT": "DenyOnLimit",
    "OVERRIDE_PARTITION_QOS": "OverPartQOS",
    "NO_DECAY": "NoDecay",
    "USAGE_FACTOR_SAFE": "UsageFactorSafe",
}
"""Flags of a QOS in the JSON, and as sacctmgr takes them."""

UNSET: Mapping[str, str] = {
    "Fairshare": "1",
    "GraceTime": "0",
    "UsageFactor": "1",
    "PreemptMode": "disabled",
    "AdminLevel": "None",
}
"""What stands for nothing where Slurm always has a value."""

_PARENT_SHARES = 0x7FFF_FFFF
"""Fairshare=parent (slurmdb.h, SLURMDB_FS_USE_PARENT)."""


class Made(TypedDict):
    """What hpcstate did with one thing. ``made``: it was not there before. ``set``: what of it is ours."""

    made: bool
    set: list[str]


class ChargedJob(TypedDict):
    """Of what a job that runs or waits is charged."""

    account: str
    user: str
    qos: str


Values = dict[str, str]
"""What a thing has, by sacctmgr's words: ``{"GrpTRES cpu": "4", "MaxWall": "60"}`` (minutes; memory in MiB).
What has no value, or the one that Slurm begins with, is absent."""


class AssociationsState(TypedDict):
    """``things`` are by name: ``account ml``, ``user alice``, ``association ml alice``, ``qos high``; so is
    ``record``, our own note. ``tres`` are the names of what is counted; ``nobody`` are users whom the node
    does not know. ``elsewhere`` are accounts and users that another cluster of this slurmdbd has, named as
    things. ``jobs`` is None where slurmctld was not asked, or does not say. Nothing of it counts but with
    ``answers``.
    """

    record: dict[str, Made]
    things: dict[str, Values]
    tres: list[str]
    nobody: list[str]
    elsewhere: list[str]
    jobs: list[ChargedJob] | None
    answers: bool


def command(cluster: str, users: Sequence[str], *, client: str, record: str, wanted: bool, jobs: bool) -> str:
    """The program associations.sh for the Slurm cluster named ``cluster``; ``users`` are looked for on the
    node. Not ``wanted``: nothing is asked unless something of ours is there. ``jobs``: slurmctld is asked for
    them."""
    return programs.command(
        Path(__file__).with_name("associations.sh"),
        arguments=[cluster, *users],
        client=client,
        record=record,
        wanted="yes" if wanted else "",
        jobs="yes" if jobs else "",
    )


def parse(text: str) -> AssociationsState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = AssociationsState(record={}, things={}, tres=[], nobody=[], elsewhere=[], jobs=[], answers=False)
    cluster = ""
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        try:
            if key == "cluster":
                cluster = rest
            elif key == "association":
                _take_associations(state, json.loads(rest)["associations"], cluster)
            else:
                _take(state, key, rest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise HpcstateError(
                f"this is no answer of associations.sh: {line[:200]!r}",
                hint="ask it by hand on the controller",
            ) from error
    return state


def _take(state: AssociationsState, key: str, rest: str) -> None:
    if key == "record":
        for name, made in json.loads(rest).items():
            state["record"][name] = Made(made=bool(made["made"]), set=[str(word) for word in made["set"]])
    elif key == "nobody" and rest:
        state["nobody"].append(rest)
    elif key == "tres":
        state["tres"] += [_tres_name(item) for item in json.loads(rest)["TRES"]]
    elif key in _READERS:
        table, read = _READERS[key]
        for item in json.loads(rest)[table]:
            name, values = read(item)
            state["things"][name] = values
    elif key == "job":
        account, user, qos = rest.split("|")
        if state["jobs"] is not None:
            state["jobs"].append(ChargedJob(account=account, user=user, qos=qos))
    elif key == "silent":
        state["jobs"] = None
    elif key == "answers":
        state["answers"] = True
    else:
        raise ValueError(key)


def _take_associations(state: AssociationsState, items: list[Any], cluster: str) -> None:
    for item in items:
        if item["cluster"] == cluster:
            name, values = _association(item)
            state["things"][name] = values
        else:
            names = [f"account {item['account']}", *([f"user {item['user']}"] if item["user"] else [])]
            state["elsewhere"] += [name for name in names if name not in state["elsewhere"]]


def _qos(item: Any) -> tuple[str, Values]:
    values = _values(item, QOS_PLACES)
    if "Flags" in values:
        values["Flags"] = ",".join(sorted(_FLAGS.get(flag, flag) for flag in values["Flags"].split(",")))
    if "PreemptMode" in values:
        values["PreemptMode"] = values["PreemptMode"].lower()
    if values.get("Priority") == "0":
        del values["Priority"]
    return f"qos {item['name']}", _without_unset(values)


def _account(item: Any) -> tuple[str, Values]:
    texts = {"Description": item["description"], "Organization": item["organization"]}
    return f"account {item['name']}", texts


def _user(item: Any) -> tuple[str, Values]:
    (level,) = item["administrator_level"]
    return f"user {item['name']}", _without_unset({"AdminLevel": level})


def _association(item: Any) -> tuple[str, Values]:
    values = _without_unset(_values(item, ASSOCIATION_PLACES))
    if values.get("Fairshare") == str(_PARENT_SHARES):
        values["Fairshare"] = "parent"
    if item["user"]:
        # One for a single partition is beside that for all of them (sacctmgr(1), partitions=).
        where = f" {item['partition']}" if item["partition"] else ""
        default = {"Default": "yes"} if item["is_default"] and not where else {}
        return f"association {item['account']} {item['user']}{where}", values | default
    parent = {"Parent": item["parent_account"]} if item["parent_account"] else {}
    return f"association {item['account']}", values | parent


_READERS = {
    "qos": ("qos", _qos),
    "account": ("accounts", _account),
    "user": ("users", _user),
}


def _values(item: Any, places: Mapping[str, str]) -> Values:
    values: Values = {}
    for word, place in places.items():
        value = item
        for step in place.split("/"):
            value = value[step]
        values |= _flat(word, value)
    return values


def _flat(word: str, value: Any) -> Values:
    """``value`` of the JSON: a number with ``set``, TRES with counts, names, a number, a text."""
    if isinstance(value, dict):
        return {word: f"{value['number']:.10g}"} if value["set"] else {}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {f"{word} {_tres_name(item)}": str(int(item["count"])) for item in value}
    text = ",".join(sorted(value)) if isinstance(value, list) else str(value)
    return {word: text} if text else {}


def _tres_name(item: Any) -> str:
    return f"{item['type']}/{item['name']}" if item["name"] else str(item["type"])


def _without_unset(values: Values) -> Values:
    return {word: value for word, value in values.items() if UNSET.get(word) != value}
