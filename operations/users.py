"""The accounts of people: users, groups, keys, homes and who may become root."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.users import Users
from hpcstate import programs
from hpcstate.node.base_files import KEYS
from hpcstate.node.managed import Managed
from hpcstate.node.users import RECORD, SUDOERS, Step, WantedUsers, ended, obstacles, steps
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import name_once, stop_host

PROGRAM = Path(__file__).with_name("users.sh")

MANAGED = (
    Managed(
        "users",
        "accounts of the cluster file's users and groups: shell, full name, groups, lock, public keys, sudo; "
        "homes are made once. Those that left the file stay, locked; others are left alone",
        f"/etc/passwd, /etc/group, {KEYS}, {SUDOERS}, /home; {RECORD} says which are ours",
        "getent, digests of the files",
        "mended",
    ),
    Managed(
        "users.ended",
        "an account of the cluster file's users that somebody let end",
        "/etc/shadow",
        "the day when it ends, by getent",
        "named",
    ),
)

_SEPARATOR = "\x1f"
_DAY = 86400


@operation()
def state(wanted: WantedUsers) -> Generator[PyinfraCommand, None, None]:
    """The users and groups are as ``wanted``, and those of ours that are not wanted are locked.

    Stops the host, and changes nothing, where a name or a number belongs to an account that is not ours.
    """
    found = host.get_fact(Users, **wanted.question)
    if why := obstacles(wanted, found):
        yield stop_host("\n".join(why))
        return
    for line in ended(wanted, found, int(time.time()) // _DAY):
        name_once(host, line)
    todo = steps(wanted, found)
    if not todo:
        host.noop(f"{len(wanted.users)} users and {len(wanted.groups)} groups are as they should be")
        return
    _show(todo)
    text = programs.command(programs.REPLACE, PROGRAM, record=RECORD, keys=KEYS, sudoers=SUDOERS)
    # Not in argv, which is too short for the keys of many.
    yield StringCommand(text, _stdin=said(todo))


def _show(todo: Iterable[Step]) -> None:
    """Tell what becomes of the files of keys, which are public; that of sudo is not shown."""
    for action, *words in todo:
        if action == "keys" and words[1:]:
            content = "".join(f"{line}\n" for line in words[1:])
            difference.show([difference.FileWritten(f"{KEYS}/{words[0]}", content)])
        elif action == "keys":
            difference.show_removed([f"{KEYS}/{words[0]}"])
        elif action == "sudoers" and words:
            difference.show([difference.FileWritten(SUDOERS, "", mode="440")])
        elif action == "sudoers":
            difference.show_removed([SUDOERS])


def said(todo: Iterable[Step]) -> str:
    """``todo`` as users.sh reads it."""
    return "".join(f"{_SEPARATOR.join(step)}\n" for step in todo)
