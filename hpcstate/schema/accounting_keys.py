"""The keys of ``accounting``: accounts, users and QOS with sacctmgr's limits, by its names in lower case."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from hpcstate.model import AccountUser, Qos, SlurmAccount
from hpcstate.model.accounting import DEFAULT_ACCOUNT, Setting
from hpcstate.model.partition import minutes
from hpcstate.schema import leaf
from hpcstate.schema.account import account_name
from hpcstate.schema.declare import Keys, ListKey, ValueKey
from hpcstate.schema.leaf import LeafError

MAX_NUMBER = 1_000_000_000
"""Less than what Slurm reads as unlimited (slurm.h, INFINITE and NO_VAL)."""

FAIRSHARE_OF_PARENT = "parent"

_MEMORY_MB = {"": 1, "m": 1, "g": 1 << 10, "t": 1 << 20}


def tres(value: str) -> Mapping[str, int]:
    """Counts of TRES, as sacctmgr takes them (``cpu=4,mem=8G,gres/gpu=1``); ``mem`` in MiB where it has no
    unit (sacctmgr(1), GrpTRES). Which TRES a cluster counts is up to the reader."""
    found: dict[str, int] = {}
    for item in value.split(","):
        match = re.fullmatch(
            r"([a-z_]{1,20}(?:/[A-Za-z0-9_.:-]{1,100})?)=([0-9]{1,12})([mgtMGT]?)", item.strip()
        )
        if not match or (match[3] and match[1] != "mem"):
            raise LeafError("TRES with counts, like cpu=4,mem=8G,gres/gpu=1")
        number = int(match[2]) * (_MEMORY_MB[match[3].lower()] if match[3] else 1)
        if number > MAX_NUMBER:
            raise LeafError(f"counts up to {MAX_NUMBER}")
        if match[1] in found:
            raise LeafError(f"each TRES once, not {match[1]} twice")
        found[match[1]] = number
    return found


def wall(value: str) -> int:
    """A time limit in minutes, rounded up (sacctmgr(1), MaxWall)."""
    limit = minutes(leaf.time_limit(value))
    if math.isinf(limit):
        raise LeafError("a Slurm time limit: minutes, H:MM:SS or D-HH:MM:SS", "without a limit leave it out")
    return math.ceil(limit)


def fairshare(value: str) -> int | str:
    """Shares, or ``parent``: those of the account, which all such users have together."""
    if value == FAIRSHARE_OF_PARENT:
        return value
    try:
        return leaf.integer(0, 1_000_000)(value)
    except LeafError:
        raise LeafError("a number of shares from 0 to 1000000, or parent") from None


def usage_factor(value: str) -> float:
    """How much of a job's use is charged."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,4})?", value, re.ASCII):
        raise LeafError("a number like 0.5")
    return float(value)


SLURM_NAME = leaf.pattern(
    r"[a-z0-9][a-z0-9_.-]*",
    "a name of lower-case letters, digits, '_', '-' and '.'",
    "sacctmgr writes names in lower case",
    longest=60,
)
_TAKEN = {"root": "the top of all accounts", "set": "a word of sacctmgr", "where": "a word of sacctmgr"}


def slurm_account(value: str) -> str:
    """The name of an account."""
    if value in _TAKEN:
        raise LeafError("another name", f"{value} is {_TAKEN[value]}")
    return SLURM_NAME(value)


def qos_name(value: str) -> str:
    """The name of a QOS."""
    if value in ("set", "where"):
        raise LeafError("another name", f"{value} is a word of sacctmgr")
    return SLURM_NAME(value)


def user_name(value: str) -> str:
    """Who submits jobs: the name of a person, or ``hpc``, as whom the checks run theirs."""
    return value if value == "hpc" else account_name(value)


def one_line(value: str) -> str:
    """A line of text. sacctmgr writes it in lower case, and ``'`` and ``"`` as `` ` `` (strip_quotes)."""
    if not value.isprintable() or not value.strip() or len(value) > 255 or "\\" in value:
        raise LeafError("a line of text without backslashes, at most 255 characters")
    return value.strip()


_COUNT = leaf.integer(0, MAX_NUMBER)
_NO_LIMIT = "none"


def _count(meaning: str) -> ValueKey[int | None]:
    return ValueKey(meaning, _COUNT, None, default_text=_NO_LIMIT)


def _tres(meaning: str) -> ValueKey[Mapping[str, int] | None]:
    return ValueKey(meaning, tres, None, default_text=_NO_LIMIT)


def _wall(meaning: str) -> ValueKey[int | None]:
    return ValueKey(meaning, wall, None, default_text=_NO_LIMIT)


class AccountKeys(Keys, title="accounting.accounts"):
    name = ValueKey(
        "lower-case letters, digits, `_`, `-`, `.`; jobs name it with `--account`",
        slurm_account,
        "",
        required=True,
    )
    parent = ValueKey(
        "the account that it is a part of, whose limits hold for it too", SLURM_NAME, SlurmAccount.parent
    )
    description = ValueKey("a line of text", one_line, SlurmAccount.description)
    organization = ValueKey("a line of text", one_line, SlurmAccount.organization)
    fairshare = ValueKey[int | str | None](
        "its shares, compared with those of its siblings; of a user also `parent`",
        fairshare,
        None,
        default_text="1",
    )
    grp_tres = _tres("what all its running jobs have together: `cpu=16,mem=64G,gres/gpu=2`")
    grp_tres_mins = _tres(
        "what all its jobs may use, in minutes of a TRES: `gres/gpu=60000`; it decays as fair share"
    )
    grp_tres_run_mins = _tres(
        "what all its running jobs may still use by their time limits, in minutes of a TRES"
    )
    grp_jobs = _count("how many of its jobs run at a time")
    grp_submit_jobs = _count("how many of its jobs run or wait")
    grp_wall = _wall("the time that all its jobs may run together: `30-0`; it decays as fair share")
    max_tres_per_job = _tres("what one job may have")
    max_tres_per_node = _tres("what one job may have on a node")
    max_tres_mins_per_job = _tres("what one job may use, in minutes of a TRES")
    max_jobs = _count("how many jobs of each user run at a time")
    max_submit_jobs = _count("how many jobs of each user run or wait")
    max_wall = _wall("the time limit that a job may have: `2-0`")
    qos = ListKey(
        "names of QOS that jobs may ask for with `--qos`", qos_name, default_text="the parent's; `normal`"
    )
    default_qos = ValueKey[str | None](
        "the QOS of a job that names none, one of `qos`",
        qos_name,
        None,
        default_text="the parent's; `normal`",
    )


class AccountUserKeys(Keys, title="accounting.users"):
    name = ValueKey("the name of a user", user_name, "", required=True)
    accounts = ListKey(
        "accounts that the user's jobs may be charged to",
        SLURM_NAME,
        default_text=f"`account` of `users`, else `{DEFAULT_ACCOUNT}`",
    )
    default_account = ValueKey[str | None](
        "the one of a job that names none", SLURM_NAME, None, default_text="the first of `accounts`"
    )
    admin_level = ValueKey(
        "`None`, `Operator` or `Administrator` (sacctmgr(1)): whose jobs and accounts they may change",
        leaf.choice("None", "Operator", "Administrator"),
        AccountUser.admin_level,
    )
    fairshare = AccountKeys.fairshare.but("shares within each account, or `parent`")
    grp_tres = AccountKeys.grp_tres.but("as for an account, in each of the accounts")
    grp_tres_mins = AccountKeys.grp_tres_mins.but("as for an account")
    grp_tres_run_mins = AccountKeys.grp_tres_run_mins.but("as for an account")
    grp_jobs = AccountKeys.grp_jobs.but("as for an account")
    grp_submit_jobs = AccountKeys.grp_submit_jobs.but("as for an account")
    grp_wall = AccountKeys.grp_wall.but("as for an account")
    max_tres_per_job = AccountKeys.max_tres_per_job.but("as for an account")
    max_tres_per_node = AccountKeys.max_tres_per_node.but("as for an account")
    max_tres_mins_per_job = AccountKeys.max_tres_mins_per_job.but("as for an account")
    max_jobs = AccountKeys.max_jobs.but("as for an account")
    max_submit_jobs = AccountKeys.max_submit_jobs.but("as for an account")
    max_wall = AccountKeys.max_wall.but("as for an account")
    qos = AccountKeys.qos.but("as for an account", default_text="the account's")
    default_qos = AccountKeys.default_qos.but("as for an account", default_text="the account's")


class QosKeys(Keys, title="accounting.qos"):
    name = ValueKey("jobs name it with `--qos`; `normal` is there always", qos_name, "", required=True)
    description = ValueKey("a line of text", one_line, Qos.description)
    priority = ValueKey[int | None](
        "what it adds, compared with other QOS", leaf.integer(0, MAX_NUMBER), None, default_text="0"
    )
    flags = ListKey(
        "`DenyOnLimit` (a job beyond a limit of it is refused instead of waiting), `EnforceUsageThreshold`, "
        "`NoDecay`, `NoReserve`, `OverPartQOS`, `PartitionMaxNodes`, `PartitionMinNodes`, "
        "`PartitionTimeLimit`, `RequiresReservation`, `UsageFactorSafe`",
        leaf.choice(
            *("DenyOnLimit", "EnforceUsageThreshold", "NoDecay", "NoReserve", "OverPartQOS"),
            *("PartitionMaxNodes", "PartitionMinNodes", "PartitionTimeLimit", "RequiresReservation"),
            "UsageFactorSafe",
        ),
    )
    preempt = ListKey(
        "names of QOS whose jobs make room for its own, see PreemptType in slurm.conf(5)", qos_name
    )
    preempt_mode = ValueKey[str | None](
        "how its own jobs make room: `cancel`, `requeue`, `suspend`",
        leaf.choice("cancel", "requeue", "suspend"),
        None,
        default_text="the cluster's",
    )
    grace_time = ValueKey[int | None](
        "seconds that a job has to end when it is preempted", leaf.integer(0, 86400), None, default_text="0"
    )
    usage_factor = ValueKey[float | None](
        "how much of a job's use is charged: `0.5` for half", usage_factor, None, default_text="1"
    )
    grp_tres = AccountKeys.grp_tres.but("what all its running jobs have together")
    grp_tres_mins = AccountKeys.grp_tres_mins.but("as for an account")
    grp_tres_run_mins = AccountKeys.grp_tres_run_mins.but("as for an account")
    grp_jobs = AccountKeys.grp_jobs.but("as for an account")
    grp_submit_jobs = AccountKeys.grp_submit_jobs.but("as for an account")
    grp_wall = AccountKeys.grp_wall.but("as for an account")
    max_tres_per_job = AccountKeys.max_tres_per_job.but("as for an account")
    max_tres_per_node = AccountKeys.max_tres_per_node.but("as for an account")
    max_tres_per_user = AccountKeys.max_tres_per_job.but("what the running jobs of one user have together")
    max_tres_per_account = AccountKeys.max_tres_per_job.but("what those of one account have together")
    max_tres_mins_per_job = AccountKeys.max_tres_mins_per_job.but("as for an account")
    min_tres_per_job = AccountKeys.max_tres_per_job.but("what one job must ask for")
    max_jobs_per_user = AccountKeys.max_jobs.but("how many jobs of each user run at a time")
    max_jobs_per_account = AccountKeys.max_jobs.but("how many of each account")
    max_submit_jobs_per_user = AccountKeys.max_submit_jobs.but("how many jobs of each user run or wait")
    max_submit_jobs_per_account = AccountKeys.max_submit_jobs.but("how many of each account")
    max_wall = AccountKeys.max_wall.but("as for an account")


NOT_SETTINGS = ("name", "parent", "description", "organization", "accounts", "default_account", "admin_level")


def setting_rows(table: type[Keys]) -> tuple[ValueKey[Setting | None] | ListKey[str], ...]:
    """The rows of ``table`` that are limits, shares and the like."""
    return tuple(
        row
        for name, row in table.rows.items()
        if name not in NOT_SETTINGS and isinstance(row, ValueKey | ListKey)
    )
