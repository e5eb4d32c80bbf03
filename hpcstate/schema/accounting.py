"""``accounting`` of an hpc cluster: whether jobs are recorded in a database of its own, and who may use how
much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hpcstate.model import AccountingSettings, AccountUser, Group, Node, Qos, SlurmAccount, SlurmConfig, User
from hpcstate.model.accounting import DEFAULT_ACCOUNT, Setting
from hpcstate.schema.accounting_keys import (
    AccountKeys,
    AccountUserKeys,
    QosKeys,
    setting_rows,
)
from hpcstate.schema.declare import Keys, ListKey
from hpcstate.schema.keys import AccountingKeys, HpcKeys
from hpcstate.schema.leaf import closest
from hpcstate.schema.people_keys import UserKeys
from hpcstate.schema.reservations import read_reservations
from hpcstate.schema.section import Section

_OF_OTHERS = ("accountingstoragetype", "accountingstoragehost", "accountingstorageport")
"""Parameters of slurm.conf, in lower case, by which a file says where its jobs are recorded."""

_STATIC_TRES = ("cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages")
"""What Slurm always counts (src/common/slurmdb_defs.h, TRES_... numbers)."""

NORMAL = "normal"
"""The QOS that slurmdbd makes with its tables, and that jobs have unless they say otherwise."""

_ROOT = SlurmAccount.parent


def read_accounting(
    cluster: Section,
    slurm: SlurmConfig,
    nodes: Sequence[Node],
    people: Sequence[User],
    groups: Sequence[Group] = (),
) -> AccountingSettings:
    """The section, its defaults where it is absent. A file whose ``slurm_config.parameters`` say where jobs
    are recorded has no database of its own; one that asks for both is reported, and so is one that declares
    accounts without a database.

    ``people`` and ``groups`` are ``users`` and ``groups`` of the cluster. Without ``nodes``, which could not
    be placed, TRES are not checked.
    """
    section = cluster.section(HpcKeys.accounting)
    enabled = section.value(AccountingKeys.enabled)
    elsewhere = next((key for key in slurm.parameters if key.lower() in _OF_OTHERS), None)
    if elsewhere and enabled and AccountingKeys.enabled in section:
        section.report.error(
            section.at(AccountingKeys.enabled),
            f"slurm_config.parameters.{elsewhere} already says where jobs are recorded",
            f"remove {elsewhere} for a database on the controller, or write `enabled: false`",
        )
    on = enabled and elsewhere is None
    if not on:
        for key in (AccountingKeys.accounts, AccountingKeys.users, AccountingKeys.qos):
            if section.entries(key):
                section.report.error(
                    section.at(key),
                    "there is no database of the cluster's own that could have them",
                    f"remove {elsewhere} from slurm_config.parameters"
                    if elsewhere
                    else "leave out `enabled: false`",
                )
    reader = _Reader(_tres(slurm, nodes) if nodes else (), directory=HpcKeys.directory in cluster)
    qos = reader.read_qos(section)
    accounts = reader.read_accounts(section, tuple(each.name for each in qos))
    settings = AccountingSettings(on, accounts, reader.read_users(section, accounts, qos, people), qos)
    _check_people(cluster, settings, people)
    known = tuple(account.name for account in accounts) if settings.declared else None
    reserved = read_reservations(section, AccountingKeys.reservations, slurm, nodes, (people, groups), known)
    return replace(settings, reservations=reserved)


class _Reader:
    """Reads the settings. ``tres``: the names of what the cluster counts, empty where not known.
    ``directory``: people may also come from there."""

    def __init__(self, tres: Sequence[str], *, directory: bool) -> None:
        self._tres = tuple(tres)
        self._directory = directory

    def read_qos(self, section: Section) -> tuple[Qos, ...]:
        """The QOS of the file."""
        entries = list(section.sections(AccountingKeys.qos))
        known = (*(entry.value(QosKeys.name) for entry in entries), NORMAL)
        found: dict[str, Qos] = {}
        for entry in entries:
            name = entry.value(QosKeys.name)
            _once(entry, entry.at(QosKeys.name), name, found)
            for place, other in entry.items(QosKeys.preempt):
                if other == name:
                    entry.report.error(place, f"{name} cannot preempt itself", "leave it out")
                else:
                    _demand(entry, place, other, known, "QOS")
            found[name] = Qos(name, entry.value(QosKeys.description), self._settings(entry, QosKeys))
        return tuple(found.values())

    def read_accounts(self, section: Section, qos: Sequence[str]) -> tuple[SlurmAccount, ...]:
        """The accounts of the file, each behind its parent."""
        entries = list(section.sections(AccountingKeys.accounts))
        known = (_ROOT, *(entry.value(AccountKeys.name) for entry in entries))
        found: dict[str, SlurmAccount] = {}
        places: dict[str, Section] = {}
        for entry in entries:
            name, parent = entry.value(AccountKeys.name), entry.value(AccountKeys.parent)
            _once(entry, entry.at(AccountKeys.name), name, found)
            _demand(entry, entry.at(AccountKeys.parent), parent, known, "account")
            self._check_qos(entry, AccountKeys, qos)
            if entry.value(AccountKeys.fairshare) == "parent":
                entry.report.error(
                    entry.at(AccountKeys.fairshare),
                    "`parent` is for users",
                    "give the account a number of shares",
                )
            found[name] = SlurmAccount(
                name,
                parent,
                entry.value(AccountKeys.description),
                entry.value(AccountKeys.organization),
                self._settings(entry, AccountKeys),
            )
            places[name] = entry
        return tuple(_parents_first(found, places))

    def read_users(
        self, section: Section, accounts: Sequence[SlurmAccount], qos: Sequence[Qos], people: Sequence[User]
    ) -> tuple[AccountUser, ...]:
        """The users of the section; the others have an association as well (hpcstate.slurm.associations)."""
        known = tuple(dict.fromkeys([*(account.name for account in accounts), DEFAULT_ACCOUNT]))
        persons = {user.name: user for user in people}
        found: dict[str, AccountUser] = {}
        for entry in section.sections(AccountingKeys.users):
            name = entry.value(AccountUserKeys.name)
            _once(entry, entry.at(AccountUserKeys.name), name, found)
            if name and name not in (*persons, "hpc") and not self._directory:
                entry.report.warning(
                    entry.at(AccountUserKeys.name),
                    f"{name} is none of `users`",
                    closest(name, tuple(persons)) or "somebody else has to make that account on the nodes",
                )
            listed = entry.items(AccountUserKeys.accounts)
            for place, account in listed:
                _demand(entry, place, account, known, "account")
            own = persons[name].account if name in persons else ""
            names = tuple(dict.fromkeys(account for _, account in listed)) or (own or DEFAULT_ACCOUNT,)
            if own and own not in names:
                entry.report.error(
                    entry.at(AccountUserKeys.accounts),
                    f"`account` of {name} in `users` is {own!r}, which is not here",
                    "add it, or leave `account` out there",
                )
            default = entry.value(AccountUserKeys.default_account)
            if default:
                _demand(
                    entry, entry.at(AccountUserKeys.default_account), default, names, "account of this user"
                )
            self._check_qos(entry, AccountUserKeys, tuple(each.name for each in qos))
            found[name] = AccountUser(
                name,
                names,
                default or own or names[0],
                entry.value(AccountUserKeys.admin_level),
                self._settings(entry, AccountUserKeys),
            )
        return tuple(found.values())

    def _settings(self, entry: Section, table: type[Keys]) -> Mapping[str, Setting]:
        settings: dict[str, Setting] = {}
        for row in setting_rows(table):
            value = entry.values(row) if isinstance(row, ListKey) else entry.value(row)
            if value is None or value == ():
                continue
            if isinstance(value, Mapping) and self._tres:
                for name in value:
                    if name not in self._tres:
                        hint = closest(name, self._tres) or f"it counts {', '.join(self._tres)}"
                        entry.report.error(entry.at(row), f"the cluster does not count {name!r}", hint)
            settings[row.name] = value
        return settings

    @staticmethod
    def _check_qos(
        entry: Section, table: type[AccountKeys] | type[AccountUserKeys], declared: Sequence[str]
    ) -> None:
        known = (*declared, NORMAL)
        listed = entry.items(table.qos)
        for place, name in listed:
            _demand(entry, place, name, known, "QOS")
        default = entry.value(table.default_qos)
        if default:
            names = tuple(name for _, name in listed) or known
            _demand(
                entry, entry.at(table.default_qos), default, names, "QOS" if not listed else "QOS in `qos`"
            )


def _tres(slurm: SlurmConfig, nodes: Sequence[Node]) -> tuple[str, ...]:
    """The names of what the cluster counts: as AccountingStorageTRES in slurm.conf, and what Slurm adds."""
    found = dict.fromkeys(_STATIC_TRES)
    for node in nodes:
        if node.gres_types:
            found |= dict.fromkeys(f"gres/{item.partition(':')[0]}" for item in node.gres.split(","))
            found |= dict.fromkeys(f"gres/gpu:{kind}" for kind in node.gres_types)
    for key, value in slurm.parameters.items():
        if key.lower() == "accountingstoragetres":
            found |= dict.fromkeys(name.strip().lower() for name in value.split(","))
    return tuple(found)


def _once(entry: Section, place: str, name: str, found: Mapping[str, object]) -> None:
    if name and name in found:
        entry.report.error(place, f"{name!r} is here twice", "keep one of the two")


def _demand(entry: Section, place: str, name: str, known: Sequence[str], what: str) -> None:
    """Report ``name`` of ``place`` when it is none of ``known``."""
    if name and name not in known:
        names = tuple(each for each in known if each)
        hint = closest(name, names) or f"there are {', '.join(names)}"
        entry.report.error(place, f"there is no {what} {name!r}", hint)


def _parents_first(
    found: Mapping[str, SlurmAccount], places: Mapping[str, Section]
) -> Iterator[SlurmAccount]:
    """The accounts, each behind its parent; one that is its own ancestor is reported."""
    done: set[str] = set()

    def behind(account: SlurmAccount, path: tuple[str, ...]) -> Iterator[SlurmAccount]:
        if account.name in done:
            return
        if account.name in path:
            entry = places[account.name]
            circle = " in ".join((*path[path.index(account.name) :], account.name))
            entry.report.error(entry.at(AccountKeys.parent), f"a circle: {circle}", "one of them is in root")
            return
        parent = found.get(account.parent)
        if parent is not None:
            yield from behind(parent, (*path, account.name))
        if account.name not in done:
            done.add(account.name)
            yield account

    for account in found.values():
        yield from behind(account, ())


def _check_people(cluster: Section, settings: AccountingSettings, people: Sequence[User]) -> None:
    """``account`` of each of ``users``."""
    known = tuple(account.name for account in settings.accounts)
    accounts = {user.name: user.account for user in people}
    for entry in cluster.sections(HpcKeys.users):
        account = accounts.get(entry.value(UserKeys.name), "")
        if not account:
            continue
        if not settings.declared:
            entry.report.error(
                entry.at(UserKeys.account),
                f"there is no account {account!r}: `accounting` declares none",
                "declare it in accounting.accounts",
            )
        else:
            _demand(entry, entry.at(UserKeys.account), account, (*known, DEFAULT_ACCOUNT), "account")
