"""People on the nodes of a Slurm cluster: what each node should have of them, and the difference to what it
has. Pure.

Which accounts are ours says a record of ours on the node. An account that is not in it was made by hand, and
is left alone: where the cluster file wants its name or number, that is an obstacle with a next step. Who
leaves the file is locked and keeps name, number and home: a number given anew would own files of others.

There are no passwords. The password field is ``*``, which no password fits (crypt(5)) and with which sshd
lets keys in whatever its UsePAM is; ``!`` in front of it refuses keys too where UsePAM is off (sshd's auth.c,
platform_locked_account), and does nothing to them where it is on, as Debian has it. So what locks an account
is its end, on 2 January 1970 (usermod(8), --lock), at which PAM's account stage looks (pam_unix(8)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpcstate.model import Cluster, Group, Node, User
from hpcstate.node.base_files import KEYS, SUDO
from hpcstate.node.homes import owns_homes
from hpcstate.probe.users import RootFile, UsersState
from hpcstate.render import render

RECORD = "/etc/hpcstate/accounts"
"""The accounts that hpcstate made on a node, a line each: ``user alice 2001``, with ``left`` behind it when
it is locked."""

SUDOERS = "/etc/sudoers.d/hpcstate-users"
HOMES = "/home"
LOCKED = "1"
"""The day when a locked account ended; 0 is ambiguous (shadow(5))."""


@dataclass(frozen=True)
class WantedUsers:
    """Who must be on one node. ``homes``: it is this node that makes the homes."""

    users: tuple[User, ...]
    groups: tuple[Group, ...]
    homes: bool

    @property
    def question(self) -> dict[str, Any]:
        """The arguments of hpcstate.probe.users.command."""
        names = [*(user.name for user in self.users), *(group.name for group in self.groups)]
        numbers = [*(user.uid for user in self.users), *(group.gid for group in self.groups)]
        return {
            "words": (*names, *map(str, numbers)),
            "record": RECORD,
            "keys": KEYS,
            "sudoers": SUDOERS,
            "homes": HOMES if self.homes else "",
        }


Step = tuple[str, ...]
"""An action of operations/users.sh and its words."""


def wanted_users(cluster: Cluster, node: Node) -> WantedUsers:
    """Who must be on ``node`` of ``cluster``."""
    return WantedUsers(cluster.users, cluster.groups, owns_homes(cluster, node))


def keys_text(keys: Sequence[str]) -> str:
    """The file of public keys of one account; empty without any."""
    return render("base/authorized_keys.j2", keys=keys) if keys else ""


def sudoers_text(users: Sequence[User]) -> str:
    """The file that lets the admins among ``users`` do everything; empty without any."""
    admins = [user.name for user in users if user.admin]
    return render("base/sudoers.j2", admins=admins) if admins else ""


def obstacles(wanted: WantedUsers, found: UsersState) -> list[str]:
    """Why nothing can be done on this node, with the next step each; none where something can."""
    return [*_groups_in_the_way(wanted, found), *_users_in_the_way(wanted, found)]


def _groups_in_the_way(wanted: WantedUsers, found: UsersState) -> Iterator[str]:
    for group in wanted.groups:
        there = found["groups"].get(group.name)
        owner = _owner(found, "groups", group.gid)
        noted = found["noted_groups"].get(group.name)
        if there is not None and there["gid"] != group.gid:
            yield _other_number("group", group.name, there["gid"], group.gid)
        elif there is not None and noted is None:
            yield _by_hand("group", group.name, group.gid)
        elif there is None and owner:
            yield _taken(group.name, group.gid, f"the group {owner}")


def _users_in_the_way(wanted: WantedUsers, found: UsersState) -> Iterator[str]:
    for user in wanted.users:
        there = found["users"].get(user.name)
        noted = found["noted_users"].get(user.name)
        own = found["groups"].get(user.name)
        owner = _owner(found, "users", user.uid)
        if there is not None and there["uid"] != user.uid:
            yield _other_number("user", user.name, there["uid"], user.uid)
        elif there is not None and noted is None:
            yield _by_hand("user", user.name, user.uid)
        elif there is None and owner:
            yield _taken(user.name, user.uid, f"the account {owner}")
        elif own is not None and own["gid"] != user.uid:
            yield _other_number("group", user.name, own["gid"], user.uid)
        elif own is None and (group := _owner(found, "groups", user.uid)):
            yield _taken(user.name, user.uid, f"the group {group}")
        yield from _reserved(user, found)
        for path, number in found["homes"].items():
            if path == _home(user) and number != user.uid:
                yield (
                    f"{path} belongs to the number {number}, and {user.name} is {user.uid} in the cluster "
                    f"file: `chown -R {user.uid}:{user.uid} {path}` if it is theirs, or move it away"
                )
            elif path != _home(user) and number == user.uid:
                yield (
                    f"{path} belongs to the number {number}, which is that of {user.name} in the cluster "
                    f"file: its files would be theirs. Take another uid for {user.name}, or chown them"
                )


def ended(wanted: WantedUsers, found: UsersState, today: int) -> list[str]:
    """A line for each user of the file whose account somebody let end (``chage --expiredate``): sshd lets
    nobody in then. ``today`` is a day as shadow(5) counts them, from 1970."""
    return [
        f"the account of {user.name} has ended, by hand: nobody logs in there. `chage --expiredate -1 "
        f"{user.name}` opens it again; to lock it for good, take {user.name} out of the cluster file"
        for user in wanted.users
        if (day := found["ends"].get(user.name, "")).isdecimal() and day != LOCKED and int(day) <= today
    ]


def _reserved(user: User, found: UsersState) -> Iterator[str]:
    """Another account of ours that had this number, and was deleted by hand."""
    for name, noted in found["noted_users"].items():
        if name != user.name and noted["number"] == user.uid and name not in found["users"]:
            yield (
                f"the number {user.uid} of {user.name} was that of {name}, and files may still belong to it: "
                f"take another uid for {user.name}; when nothing of {name} is left on any node, take their "
                f"line out of {RECORD}"
            )


def _owner(found: UsersState, kind: str, number: int) -> str:
    """Who has ``number`` among users or groups; empty for nobody."""
    if kind == "users":
        return next((name for name, entry in found["users"].items() if entry["uid"] == number), "")
    return next((name for name, entry in found["groups"].items() if entry["gid"] == number), "")


def _other_number(kind: str, name: str, there: int, wanted: int) -> str:
    option = "usermod --uid" if kind == "user" else "groupmod --gid"
    return (
        f"the {kind} {name} has the number {there} here, {wanted} in the cluster file: files belong to one "
        f"or the other, so it is yours to say. Write {there} into the file, or `{option} {wanted} {name}` "
        "and chown on every node"
    )


def _by_hand(kind: str, name: str, number: int) -> str:
    return (
        f"the {kind} {name} was made by hand here, and is left alone. To give it to hpcstate: "
        f"`echo {kind} {name} {number} | sudo tee -a {RECORD}` on this node, and deploy again"
    )


def _taken(name: str, number: int, owner: str) -> str:
    return f"the number {number} of {name} is that of {owner} here: take another one in the cluster file"


def steps(wanted: WantedUsers, found: UsersState) -> list[Step]:
    """What has to be done, in order; nothing when all is as it should be. Access goes first.

    Only where there are no obstacles.
    """
    return [*_leaving(wanted, found), *_groups(wanted, found), *_users(wanted, found), *_sudo(wanted, found)]


def _leaving(wanted: WantedUsers, found: UsersState) -> Iterator[Step]:
    """Who is no longer in the file."""
    stay = {user.name for user in wanted.users}
    for name, noted in found["noted_users"].items():
        if name in stay:
            continue
        if name in found["keys"]:
            yield ("keys", name)
        if name in found["users"]:
            if found["ends"].get(name) != LOCKED or not noted["left"]:
                yield ("leave", name, str(noted["number"]))
            if name in _members(found, SUDO):
                yield ("quit", name, SUDO)


def _groups(wanted: WantedUsers, found: UsersState) -> Iterator[Step]:
    for group in wanted.groups:
        if group.name not in found["groups"]:
            yield ("group", group.name, str(group.gid))


def _users(wanted: WantedUsers, found: UsersState) -> Iterator[Step]:
    ours = {*(group.name for group in wanted.groups), *found["noted_groups"], SUDO}
    for user in wanted.users:
        there = found["users"].get(user.name)
        noted = found["noted_users"].get(user.name)
        if there is None:
            yield ("user", user.name, str(user.uid), user.shell, user.full_name)
        else:
            if found["ends"].get(user.name) == LOCKED or (noted and noted["left"]):
                yield ("back", user.name, str(user.uid))
            if user.name not in found["groups"] or there["gid"] != user.uid:
                yield ("own", user.name, str(user.uid))
            if changes := _login(user, there["full_name"], there["home"], there["shell"]):
                yield ("change", user.name, *changes)
        should = {*user.groups, *([SUDO] if user.admin else [])}
        has = {group for group in ours if user.name in _members(found, group)}
        yield from (("join", user.name, group) for group in sorted(should - has))
        yield from (("quit", user.name, group) for group in sorted(has - should))
        keys = keys_text(user.ssh_keys)
        if not _is(found["keys"].get(user.name), keys, "644"):
            yield ("keys", user.name, *keys.splitlines())
        if wanted.homes and _home(user) not in found["homes"]:
            yield ("home", user.name, str(user.uid), _home(user))


def _login(user: User, full_name: str, home: str, shell: str) -> list[str]:
    """Options of usermod(8) for what differs. Only those: it refuses --home while somebody is logged in."""
    pairs = (
        ("--comment", user.full_name, full_name),
        ("--home", _home(user), home),
        ("--shell", user.shell, shell),
    )
    return [word for option, should, now in pairs if should != now for word in (option, should)]


def _sudo(wanted: WantedUsers, found: UsersState) -> Iterator[Step]:
    text = sudoers_text(wanted.users)
    if not _is(found["sudoers"], text, "440"):
        yield ("sudoers", *text.splitlines())


def _is(file: RootFile | None, text: str, mode: str) -> bool:
    """Whether ``file`` is root's and has ``text``; without a text, whether there is none."""
    if not text or file is None:
        return not text and file is None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (file["mode"], file["owner"], file["sha256"]) == (mode, "root:root", digest)


def _members(found: UsersState, group: str) -> list[str]:
    there = found["groups"].get(group)
    return there["members"] if there else []


def _home(user: User) -> str:
    return f"{HOMES}/{user.name}"
