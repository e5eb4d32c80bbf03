"""The accounts of people on a host: those that hpcstate made, and whatever has their names or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class Recorded(TypedDict):
    """An account that hpcstate made. ``left``: it is no longer in the cluster file, and locked."""

    number: int
    left: bool


class PersonEntry(TypedDict):
    """One account, as passwd(5) has it."""

    uid: int
    gid: int
    full_name: str
    home: str
    shell: str


class GroupEntry(TypedDict):
    """One group, as group(5) has it; ``members`` are those that it is a further group of."""

    gid: int
    members: list[str]


class RootFile(TypedDict):
    """A file: ``mode`` is octal digits (``644``), ``owner`` is ``user:group``."""

    mode: str
    owner: str
    sha256: str


class UsersState(TypedDict):
    """What a host has. All but ``homes`` are by name.

    ``noted_users`` and ``noted_groups`` are our own record. ``ends`` is the day when an account ends, counted
    from 1970 (shadow(5)), empty for never. ``keys`` are the files of public keys. ``homes`` is path to the
    owner's number of each folder that lies where homes do.
    """

    noted_users: dict[str, Recorded]
    noted_groups: dict[str, Recorded]
    users: dict[str, PersonEntry]
    groups: dict[str, GroupEntry]
    ends: dict[str, str]
    keys: dict[str, RootFile]
    sudoers: RootFile | None
    homes: dict[str, int]


def command(
    words: Sequence[str] = (), record: str = "", keys: str = "", sudoers: str = "", homes: str = ""
) -> str:
    """The program users.sh. ``words`` are names and numbers to look for beside those of the record."""
    program = Path(__file__).with_name("users.sh")
    return programs.command(program, arguments=words, record=record, keys=keys, sudoers=sudoers, homes=homes)


def parse(text: str) -> UsersState:
    """What the program said; all of it is empty for no text.

    Raises HpcstateError for a line that is none of the program's.
    """
    state = UsersState(
        noted_users={}, noted_groups={}, users={}, groups={}, ends={}, keys={}, sudoers=None, homes={}
    )
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        try:
            _take(state, key, value)
        except (KeyError, ValueError) as error:
            raise HpcstateError(f"this is no answer of users.sh: {line!r}") from error
    return state


_KINDS: dict[str, Literal["noted_users", "noted_groups"]] = {"user": "noted_users", "group": "noted_groups"}


def _take(state: UsersState, key: str, value: str) -> None:
    if key == "record":
        kind, name, number, *rest = value.split(" ")
        state[_KINDS[kind]][name] = Recorded(number=int(number), left=rest == ["left"])
    elif key == "passwd":
        name, _, uid, gid, gecos, home, shell = value.split(":")
        # What chfn(1) may have added behind the name is its owner's.
        full_name = gecos.split(",")[0]
        entry = PersonEntry(uid=int(uid), gid=int(gid), full_name=full_name, home=home, shell=shell)
        state["users"][name] = entry
    elif key == "group":
        name, _, gid, members = value.split(":")
        state["groups"][name] = GroupEntry(
            gid=int(gid), members=[each for each in members.split(",") if each]
        )
    elif key == "expires":
        name, _, day = value.partition(" ")
        state["ends"][name] = day
    elif key == "keys":
        mode, owner, sha256, name = value.split(" ", 3)
        state["keys"][name] = RootFile(mode=mode, owner=owner, sha256=sha256)
    elif key == "sudoers":
        mode, owner, sha256 = value.split(" ")
        state["sudoers"] = RootFile(mode=mode, owner=owner, sha256=sha256)
    else:
        number, path = value.split(" ", 1)
        state[_HOMES[key]][path] = int(number)


_HOMES: dict[str, Literal["homes"]] = {"home": "homes"}
