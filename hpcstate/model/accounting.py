"""What a Slurm cluster keeps of its jobs, and who may use how much of it: ``accounting`` of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpcstate.model.reservation import Reservation

Setting = int | float | str | tuple[str, ...] | Mapping[str, int]
"""A limit, share or flag as the file has it: a number (minutes for a time, seconds for ``grace_time``), a
word, names, or TRES to counts (``mem`` in MiB)."""

DEFAULT_ACCOUNT = "default"
"""The account of the users to whom the file gives none, where anything is declared."""


@dataclass(frozen=True)
class SlurmAccount:
    """An account. ``settings`` are those of its association, by the file's keys."""

    name: str
    parent: str = "root"
    description: str = ""
    organization: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class AccountUser:
    """Somebody of ``accounting.users``. ``settings`` hold in each of the ``accounts``, of which
    ``default_account`` is one."""

    name: str
    accounts: tuple[str, ...]
    default_account: str
    admin_level: str = "None"
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Qos:
    """A QOS of ``accounting.qos``; ``settings`` by the file's keys."""

    name: str
    description: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class AccountingSettings:
    """``on``: the controller runs slurmdbd and its database, and Slurm records its jobs there. Accounts stand
    behind their parents. ``reservations`` are slurmctld's, and need neither."""

    on: bool = True
    accounts: tuple[SlurmAccount, ...] = ()
    users: tuple[AccountUser, ...] = ()
    qos: tuple[Qos, ...] = ()
    reservations: tuple[Reservation, ...] = ()

    @property
    def declared(self) -> bool:
        """Whether the file says who may use how much: Slurm then enforces it."""
        return self.on and bool(self.accounts or self.users or self.qos)
