"""``users`` and ``groups`` of an hpc cluster."""

from __future__ import annotations

from hpcstate.model import Group, User
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.leaf import closest
from hpcstate.schema.people_keys import GroupKeys, UserKeys
from hpcstate.schema.section import Section, read
from hpcstate.schema.ssh_key import is_private


def read_people(cluster: Section) -> tuple[tuple[User, ...], tuple[Group, ...]]:
    """The users and groups; a name and a number stand for one of them only, and is reported otherwise."""
    taken: dict[object, str] = {}
    groups = []
    for entry in cluster.sections(HpcKeys.groups):
        group = Group(entry.value(GroupKeys.name), entry.value(GroupKeys.gid))
        _take(taken, entry, entry.at(GroupKeys.name), group.name)
        _take(taken, entry, entry.at(GroupKeys.gid), group.gid)
        groups.append(group)
    known = tuple(group.name for group in groups if group.name)
    users = []
    for entry in cluster.sections(HpcKeys.users):
        user = User(
            name=entry.value(UserKeys.name),
            uid=entry.value(UserKeys.uid),
            groups=_groups(entry, known),
            full_name=entry.value(UserKeys.full_name),
            shell=entry.value(UserKeys.shell),
            ssh_keys=_keys(entry),
            admin=entry.value(UserKeys.admin),
            account=entry.value(UserKeys.account),
            home_quota_gb=entry.value(UserKeys.home_quota_gb),
        )
        _take(taken, entry, entry.at(UserKeys.name), user.name)
        _take(taken, entry, entry.at(UserKeys.uid), user.uid)
        if not user.ssh_keys and user.name:
            entry.report.warning(
                entry.place,
                f"{user.name} has no ssh_keys, and so cannot log in",
                "add the line of their .pub file; there are no passwords",
            )
        users.append(user)
    return tuple(users), tuple(groups)


def _take(taken: dict[object, str], entry: Section, place: str, value: str | int) -> None:
    """Report ``value`` of ``place`` when another user or group has it; a missing one is reported already."""
    if not value:
        return
    other = taken.setdefault(value, place)
    if other != place:
        what = f"the number {value}" if isinstance(value, int) else f"the name {value!r}"
        entry.report.error(
            place,
            f"{what} is already taken",
            f"see line {entry.report.line(other)}: each user also has a group of their own, of that "
            "name and number",
        )


def _groups(entry: Section, known: tuple[str, ...]) -> tuple[str, ...]:
    names = []
    for place, name in entry.items(UserKeys.groups):
        if name not in known:
            hint = closest(name, known) or "declare it in groups, with its gid"
            entry.report.error(place, f"there is no group {name!r}", hint)
        names.append(name)
    return tuple(dict.fromkeys(names))


def _keys(entry: Section) -> tuple[str, ...]:
    keys = []
    for place, text in entry.entries(UserKeys.ssh_keys):
        if isinstance(text, str) and is_private(text):
            # What stands there is not shown.
            entry.report.error(
                place,
                "this is a private key, which belongs to its owner alone",
                "take the line of the .pub file, and make a new pair (ssh-keygen): this one has been in a "
                "file that others read",
            )
            continue
        key = read(entry.report, place, text, UserKeys.ssh_keys.leaf, "")
        if key:
            keys.append(key)
    return tuple(dict.fromkeys(keys))
