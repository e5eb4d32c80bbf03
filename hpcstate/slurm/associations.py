"""Who may use how much of a Slurm cluster: what slurmdbd should have, and the difference to it. Pure.

Things are named as in hpcstate.probe.associations: ``qos high``, ``account ml``, ``association ml``,
``association ml alice``, ``user alice``; what each has goes by sacctmgr's words.

Which of them are ours says a record, with the words that we set on each. What is in the file is made as the
file says, also where it was there before; what was ours and left the file is removed, or its limits are. The
rest was made by others, and is named and left alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcstate.model import AccountUser, Cluster
from hpcstate.model.accounting import DEFAULT_ACCOUNT, Setting
from hpcstate.probe.associations import UNSET, AssociationsState, ChargedJob, Made, Values
from hpcstate.slurm.accounting import CLIENT_CONF
from hpcstate.slurm.conf import STATE

RECORD = f"{STATE}/hpcstate-associations.json"
"""What of slurmdbd's is ours. It lies on the data volume, as the database does, and goes where that goes."""

WORDS: Mapping[str, str] = {
    "default_qos": "DefaultQOS",
    "description": "Description",
    "fairshare": "Fairshare",
    "flags": "Flags",
    "grace_time": "GraceTime",
    "grp_jobs": "GrpJobs",
    "grp_submit_jobs": "GrpSubmitJobs",
    "grp_tres": "GrpTRES",
    "grp_tres_mins": "GrpTRESMins",
    "grp_tres_run_mins": "GrpTRESRunMins",
    "grp_wall": "GrpWall",
    "max_jobs": "MaxJobs",
    "max_jobs_per_account": "MaxJobsPerAccount",
    "max_jobs_per_user": "MaxJobsPerUser",
    "max_submit_jobs": "MaxSubmitJobs",
    "max_submit_jobs_per_account": "MaxSubmitJobsPerAccount",
    "max_submit_jobs_per_user": "MaxSubmitJobsPerUser",
    "max_tres_mins_per_job": "MaxTRESMinsPerJob",
    "max_tres_per_account": "MaxTRESPerAccount",
    "max_tres_per_job": "MaxTRESPerJob",
    "max_tres_per_node": "MaxTRESPerNode",
    "max_tres_per_user": "MaxTRESPerUser",
    "max_wall": "MaxWall",
    "min_tres_per_job": "MinTRESPerJob",
    "preempt": "Preempt",
    "preempt_mode": "PreemptMode",
    "priority": "Priority",
    "qos": "QosLevel",
    "usage_factor": "UsageFactor",
}
"""Key of the cluster file to sacctmgr's word."""

_CLEAR: Mapping[str, str] = {
    **UNSET,
    "PreemptMode": "cluster",
    "Flags": "-1",
    "Preempt": "",
    "QosLevel": "",
}
"""How sacctmgr is told that there is none; -1 for all others (sacctmgr(1))."""

_STAY = ("Description", "Organization", "Parent", "Default")
"""What a thing always has: neither cleared, nor anybody's by hand."""

_BUILT_IN = ("qos normal", "account root", "user root", "association root", "association root root")
"""What slurmdbd makes itself."""

Step = tuple[str, ...]
"""The words of one call of sacctmgr, or ``record`` and the text of the record."""


@dataclass(frozen=True)
class Wanted:
    """What slurmdbd should have for the Slurm cluster named ``cluster``. ``things`` stand behind what they
    need: QOS, accounts and parents first."""

    cluster: str
    things: Mapping[str, Values] = field(default_factory=dict)

    @property
    def users(self) -> tuple[str, ...]:
        """The users among the things."""
        return tuple(name.partition(" ")[2] for name in self.things if name.startswith("user "))

    def question(self, *, jobs: bool = True) -> dict[str, Any]:
        """The arguments of hpcstate.probe.associations.command."""
        return {
            "cluster": self.cluster,
            "users": self.users,
            "client": CLIENT_CONF,
            "record": RECORD,
            "wanted": bool(self.things),
            "jobs": jobs,
        }


def wanted(cluster: Cluster, others: Iterable[str] = ()) -> Wanted:
    """What slurmdbd should have for ``cluster``; nothing where the file declares nothing.

    With associations enforced, nobody submits without one: the users of the cluster whom ``accounting.users``
    does not name, and ``others``, who are none of the file's, get the account that the file gives them, or
    DEFAULT_ACCOUNT.
    """
    declared = cluster.accounting
    if cluster.kind != "hpc" or not declared.declared:
        return Wanted(cluster.name)
    known = {user.name for user in declared.users}
    given = dict.fromkeys(others, "") | {user.name: user.account for user in cluster.users}
    implied = [
        AccountUser(name, (account or DEFAULT_ACCOUNT,), account or DEFAULT_ACCOUNT)
        for name, account in given.items()
        if name not in known
    ]
    users = [*declared.users, *implied]
    things: dict[str, Values] = {}
    for qos in declared.qos:
        things[f"qos {qos.name}"] = _text("Description", qos.description) | _flat(qos.settings)
    for account in declared.accounts:
        about = _text("Description", account.description) | _text("Organization", account.organization)
        things[f"account {account.name}"] = about
        things[f"association {account.name}"] = {"Parent": account.parent, **_flat(account.settings)}
    if any(DEFAULT_ACCOUNT in user.accounts for user in users):
        things.setdefault(f"account {DEFAULT_ACCOUNT}", {})
        things.setdefault(f"association {DEFAULT_ACCOUNT}", {"Parent": "root"})
    for user in users:
        things[f"user {user.name}"] = {"AdminLevel": user.admin_level}
        # The first one that is added becomes the default.
        for account_name in sorted(user.accounts, key=lambda name: name != user.default_account):
            default = {"Default": "yes"} if account_name == user.default_account else {}
            things[f"association {account_name} {user.name}"] = default | _flat(user.settings)
    return Wanted(cluster.name, things)


def _text(word: str, text: str) -> Values:
    return {word: text} if text else {}


def _flat(settings: Mapping[str, Setting]) -> Values:
    values: Values = {}
    for key, setting in settings.items():
        word = WORDS[key]
        if isinstance(setting, Mapping):
            values |= {f"{word} {name}": str(count) for name, count in setting.items()}
        elif isinstance(setting, tuple):
            values[word] = ",".join(sorted(setting))
        else:
            values[word] = f"{setting:.10g}" if isinstance(setting, float) else str(setting)
    return values


@dataclass(frozen=True)
class AssociationsDifference:
    """``steps`` in their order; ``named`` is what is left as it is, in words, and ``held`` what of ours
    should go and cannot yet, with its next step. ``interim`` is the record while the steps are done,
    ``record`` behind them.
    """

    steps: tuple[Step, ...]
    named: tuple[str, ...]
    held: tuple[str, ...]
    interim: Mapping[str, Made]
    record: Mapping[str, Made]


def record_text(record: Mapping[str, Made]) -> str:
    """The record as it is stored: one line."""
    return json.dumps(record, sort_keys=True)


def difference(wanted: Wanted, found: AssociationsState, *, ahead: bool = False) -> AssociationsDifference:
    """What has to be done so that slurmdbd has what is ``wanted``.

    ``ahead`` of slurmctld, which begins to enforce it: nothing is taken away, and what slurmdbd learns from
    slurmctld later (its TRES), or the node from a later deploy (its users), is left for then. An association
    whose user the node does not know is of no use to slurmctld for up to an hour (controller.c,
    assoc_mgr_set_missing_uids).
    """
    target = _known(wanted, found) if ahead else wanted
    steps = [*_additions(target, found), *_changes(target, found, ahead=ahead)]
    going = _Leaving(wanted, found)
    if not ahead:
        steps += going.steps()
    claims = {name: _claim(name, values, found) for name, values in wanted.things.items()}
    held = {name: found["record"][name] for name in going.stays}
    before = {
        name: Made(made=made["made"], set=sorted({*made["set"], *found["record"].get(name, made)["set"]}))
        for name, made in {**found["record"], **claims}.items()
    }
    return AssociationsDifference(
        tuple(steps), tuple(_by_others(wanted, found)), tuple(going.held), before, {**held, **claims}
    )


def _known(wanted: Wanted, found: AssociationsState) -> Wanted:
    """``wanted`` without what is not known yet."""
    things = {}
    for name, values in wanted.things.items():
        kind, *names = name.split(" ")
        person = names[-1] if kind == "user" or len(names) == 2 else ""
        if person not in found["nobody"]:
            things[name] = {
                word: value
                for word, value in values.items()
                if " " not in word or word.partition(" ")[2] in found["tres"]
            }
    return Wanted(wanted.cluster, things)


def _claim(name: str, values: Values, found: AssociationsState) -> Made:
    before = found["record"].get(name)
    made = before["made"] if before else name not in found["things"]
    return Made(made=made, set=sorted(values))


def _additions(wanted: Wanted, found: AssociationsState) -> Iterator[Step]:
    cluster = f"cluster={wanted.cluster}"
    for name, values in wanted.things.items():
        kind, *names = name.split(" ")
        if name in found["things"] or kind in ("account", "user"):
            continue
        if kind == "qos":
            # Whom it preempts may come behind it.
            rest = {word: value for word, value in values.items() if word != "Preempt"}
            yield ("add", "qos", f"name={names[0]}", *_settings(rest))
        elif len(names) == 1:
            about = wanted.things.get(f"account {names[0]}", {})
            yield ("add", "account", f"name={names[0]}", cluster, *_settings({**values, **about}))
        else:
            account, user = names
            yield ("add", "user", f"name={user}", f"account={account}", cluster, *_settings(values))


def _changes(wanted: Wanted, found: AssociationsState, *, ahead: bool) -> Iterator[Step]:
    cluster = f"cluster={wanted.cluster}"
    for name, values in wanted.things.items():
        kind, *names = name.split(" ")
        there = _expected(wanted, found, name)
        changed = {word: value for word, value in values.items() if not _same(word, there, value)}
        if not ahead:
            ours = found["record"].get(name, Made(made=False, set=[]))["set"]
            changed |= {word: _clear(word) for word in ours if _clears(word, values, there)}
        default = changed.pop("Default", "")
        where = f"name={names[-1]}"
        if changed and kind == "qos":
            yield ("modify", "qos", "where", where, "set", *_settings(changed))
        elif changed and kind == "user":
            yield ("modify", "user", "where", where, "set", *_settings(changed))
        elif changed and len(names) == 2:
            yield (
                *("modify", "user", "where", where, f"account={names[0]}", cluster, "set"),
                *_settings(changed),
            )
        elif changed:
            yield ("modify", "account", "where", where, cluster, "set", *_settings(changed))
        if default:
            yield ("modify", "user", "where", where, cluster, "set", f"defaultaccount={names[0]}")


def _expected(wanted: Wanted, found: AssociationsState, name: str) -> Values:
    """What the thing has when all that is missing was added."""
    if name in found["things"]:
        return found["things"][name]
    values = dict(wanted.things[name])
    kind, *names = name.split(" ")
    if kind == "qos":
        values.pop("Preempt", None)
    elif kind == "user":
        values.pop("AdminLevel")
    elif "Default" in values and any(
        other.split(" ")[-1] == names[-1] and there.get("Default")
        for other, there in found["things"].items()
        if other.startswith("association ")
    ):
        del values["Default"]
    return values


def _same(word: str, there: Values, value: str) -> bool:
    is_ = there.get(word, UNSET.get(word, ""))
    if word in ("Description", "Organization"):
        # sacctmgr's strip_quotes, and MariaDB's comparison, know no case and no quotes.
        return _stored(is_) == _stored(value)
    if word == "Priority" and not is_:
        return value == "0"
    return is_ == value


def _stored(text: str) -> str:
    return text.lower().replace("'", "`").replace('"', "`")


def _clears(word: str, values: Values, there: Values) -> bool:
    return word in there and word not in values and word not in _STAY


def _clear(word: str) -> str:
    return _CLEAR.get(word.partition(" ")[0], "-1")


def _settings(values: Values) -> Iterator[str]:
    """``values`` as sacctmgr takes them: ``GrpTRES=cpu=4,mem=8192``. Quotes keep a text one."""
    words: dict[str, str] = {}
    for word, value in values.items():
        name, _, tres = word.partition(" ")
        if tres:
            words[name] = f"{words[name]},{tres}={value}" if name in words else f"{tres}={value}"
        elif name in ("Description", "Organization"):
            words[name] = '"' + value.replace('"', "'") + '"'
        elif name != "Default":
            words[name] = value
    yield from (f"{name}={value}" for name, value in words.items())


class _Leaving:
    """What was ours and is no longer wanted. ``held`` says what cannot go yet, ``stays`` has the names."""

    def __init__(self, wanted: Wanted, found: AssociationsState) -> None:
        self._wanted = wanted
        self._found = found
        self.held: list[str] = []
        self.stays: set[str] = set()
        left = [name for name in found["record"] if name not in wanted.things and name in found["things"]]
        self._adopted = [name for name in left if not found["record"][name]["made"]]
        self._made = [name for name in left if found["record"][name]["made"]]
        self._gone: set[str] = set()
        jobs = found["jobs"]
        if jobs is None and self._made:
            self.stays |= {*self._made}
            self.held.append(
                f"{_some([_named(name) for name in self._in_order()])} may go, but slurmctld does not say "
                "which jobs there are; deploy again when it does (`scontrol ping`)"
            )
            return
        for name in self._in_order():
            if why := self._why_not(name, jobs or []):
                self.stays.add(name)
                self.held.append(why)
            else:
                self._gone.add(name)
        for name in self._made:
            # An account and a user go with their associations.
            kind, _, rest = name.partition(" ")
            ends = f"association {rest}" if kind == "account" else ""
            if ends in self.stays or (
                kind == "user" and any(rest == each.split(" ")[-1] for each in self._associations(self.stays))
            ):
                self.stays.add(name)

    def steps(self) -> Iterator[Step]:
        """What takes them away, and the limits that we set on what others made."""
        cluster = f"cluster={self._wanted.cluster}"
        yield from self._given_back(cluster)
        going = [name for name in self._in_order() if name in self._gone]
        users = dict.fromkeys(name.split(" ")[2] for name in self._associations(going))
        for user in users:
            yield from self._without(user, cluster)
        for name in self._in_order():
            kind, *names = name.split(" ")
            if name in self._gone and kind == "association" and len(names) == 1:
                yield ("remove", "account", "where", f"name={names[0]}", *self._here(f"account {names[0]}"))
        for name in self._in_order():
            if name in self._gone and name.startswith("qos "):
                yield ("remove", "qos", "where", f"name={name.partition(' ')[2]}")

    def _given_back(self, cluster: str) -> Iterator[Step]:
        for name in self._adopted:
            there = self._found["things"][name]
            words = {
                word: _clear(word) for word in self._found["record"][name]["set"] if _clears(word, {}, there)
            }
            kind, *names = name.split(" ")
            if not words:
                continue
            if kind == "association":
                what = "user" if len(names) == 2 else "account"
                place = (f"name={names[-1]}", *((f"account={names[0]}",) if len(names) == 2 else ()), cluster)
                yield ("modify", what, "where", *place, "set", *_settings(words))
            else:
                yield ("modify", kind, "where", f"name={names[0]}", "set", *_settings(words))

    def _without(self, user: str, cluster: str) -> Iterator[Step]:
        """A user loses associations; sacctmgr takes the default one only when another has its place."""
        there = [name for name in self._associations(self._found["things"]) if name.split(" ")[2] == user]
        wanted = [name for name in self._associations(self._wanted.things) if name.split(" ")[2] == user]
        rest = [*wanted, *(name for name in there if name not in self._gone)]
        if not rest:
            yield ("remove", "user", "where", f"name={user}", *self._here(f"user {user}"))
            return
        lost = [name for name in there if name in self._gone]
        if not wanted and any(self._found["things"][name].get("Default") for name in lost):
            account = rest[0].split(" ")[1]
            yield ("modify", "user", "where", f"name={user}", cluster, "set", f"defaultaccount={account}")
        for name in lost:
            yield ("remove", "user", "where", f"name={user}", f"account={name.split(' ')[1]}", cluster)

    def _here(self, name: str) -> tuple[str, ...]:
        """Where an account or a user goes: in this cluster only, when another has it too. With ``cluster``
        sacctmgr keeps an account that has no association any more."""
        return (f"cluster={self._wanted.cluster}",) if name in self._found["elsewhere"] else ()

    def _in_order(self) -> list[str]:
        """Associations of users, then accounts, children first, then QOS."""
        parents = {
            name.split(" ")[1]: values.get("Parent", "")
            for name, values in self._found["things"].items()
            if name.startswith("association ") and len(name.split(" ")) == 2
        }

        def depth(account: str) -> int:
            count = 0
            while account in parents and count < len(parents):
                account, count = parents[account], count + 1
            return count

        users = self._associations(self._made)
        accounts = [name for name in self._made if name.startswith("association ") and name not in users]
        accounts.sort(key=lambda name: -depth(name.split(" ")[1]))
        return [*users, *accounts, *(name for name in self._made if name.startswith("qos "))]

    def _why_not(self, name: str, jobs: Sequence[ChargedJob]) -> str:
        kind, *names = name.split(" ")
        if kind == "qos":
            users = [job["user"] for job in jobs if job["qos"] == names[0]]
        elif len(names) == 2:
            users = [job["user"] for job in jobs if [job["account"], job["user"]] == names]
        else:
            users = [job["user"] for job in jobs if job["account"] == names[0]]
        if users:
            who = ", ".join(dict.fromkeys(users))
            return f"{_named(name)} stays: jobs of {who} run or wait there; deploy again when they have ended"
        if kind == "association" and len(names) == 1 and (inside := self._inside(names[0])):
            return f"{_named(name)} stays: {inside} in it; `sacctmgr remove` them, and deploy again"
        return ""

    def _inside(self, account: str) -> str:
        """What others have in ``account``, or of ours stays in it."""
        inside = [
            _named(name)
            for name, values in self._found["things"].items()
            if name.startswith("association ")
            and name not in self._gone
            and (
                (name.split(" ")[1:2] == [account] and len(name.split(" ")) > 2)
                or values.get("Parent") == account
            )
            and self._wanted.things.get(name, {"Parent": account}).get("Parent", account) == account
        ]
        return " and ".join(inside) and f"{' and '.join(inside)} {'are' if len(inside) > 1 else 'is'}"

    @staticmethod
    def _associations(names: Collection[str]) -> list[str]:
        """Those of ``names`` that are associations of users."""
        return [name for name in names if name.startswith("association ") and name.count(" ") == 2]


def _named(name: str) -> str:
    """A thing in words."""
    kind, *names = name.split(" ")
    if kind == "qos":
        return f"the QOS {names[0]}"
    if kind == "association" and len(names) > 1:
        return f"the user {names[1]} of the account {names[0]}"
    return f"the {kind if kind != 'association' else 'account'} {names[0]}"


def _by_others(wanted: Wanted, found: AssociationsState) -> Iterator[str]:
    """What others made, a line for all things and one for all limits."""
    record = found["record"]
    things = [
        _named(name)
        for name in found["things"]
        if name not in wanted.things
        and name not in record
        and name not in _BUILT_IN
        and not name.startswith(("account ", "user "))
    ]
    if things:
        yield f"made by hand in slurmdbd: {_some(things)}"
    limits = []
    for name, values in found["things"].items():
        ours = {*wanted.things.get(name, ()), *record.get(name, Made(made=False, set=[]))["set"], *_STAY}
        words = [word for word in values if word not in ours]
        if name in _BUILT_IN and name not in wanted.things:
            # slurmdbd gives them shares, texts and rank itself; a limit of theirs holds for everybody.
            words = [word for word in words if word.startswith(("Grp", "Max", "Min"))]
        if words and (name in wanted.things or name in record or name in _BUILT_IN):
            limits.append(f"{', '.join(words)} of {_named(name)}")
    if limits:
        yield f"set by hand in slurmdbd: {_some(limits)}"


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:10]) + (f"; and {len(texts) - 10} more" if len(texts) > 10 else "")
