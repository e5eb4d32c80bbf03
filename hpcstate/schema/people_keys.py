"""The keys of the people who may log in, and of the groups that they share."""

from __future__ import annotations

from hpcstate.model import User
from hpcstate.model.account import SHELLS
from hpcstate.schema import leaf
from hpcstate.schema.account import FULL_NAME, account_name, account_number
from hpcstate.schema.accounting_keys import SLURM_NAME
from hpcstate.schema.declare import Keys, ListKey, ValueKey
from hpcstate.schema.ssh_key import ssh_key


class UserKeys(Keys, title="users"):
    name = ValueKey(
        "the account's name: lower-case letters, digits, `_`, `-`, at most 32; not one of the system's",
        account_name,
        "",
        required=True,
    )
    uid = ValueKey(
        "the account's number, 1000 to 60000, once in a cluster; not 1000 (`admin`) and not 2000 (`hpc`). "
        "Files belong to numbers: it never changes. The user's own group has the same name and number",
        account_number,
        0,
        required=True,
    )
    groups = ListKey("names from `groups`", account_name)
    full_name = ValueKey("shown by `finger` and in mails; without `:` and `,`", FULL_NAME, User.full_name)
    shell = ValueKey(
        "`/bin/bash`, `/bin/sh`, `/bin/dash`, or `/usr/sbin/nologin` for one who owns files only",
        leaf.choice(*SHELLS),
        User.shell,
    )
    ssh_keys = ListKey(
        "public keys, each a line like that of `~/.ssh/id_ed25519.pub`: the only way to log in", ssh_key
    )
    admin = ValueKey("`true`: sudo without a password, on all nodes", leaf.boolean, User.admin)
    account = ValueKey(
        "the account of `accounting.accounts` that their jobs are charged to; more of it in accounting.users",
        SLURM_NAME,
        User.account,
        default_text="`default`, where `accounting` declares anything",
    )
    home_quota_gb = ValueKey[int | None](
        "GiB that their files may take on the data volume, 0 without a limit; as `storage.home_quota_gb`",
        leaf.integer(0, 65536),
        None,
        default_text="that of `storage`",
    )


class GroupKeys(Keys, title="groups"):
    name = UserKeys.name.but("like the name of a user, and of no user")
    gid = UserKeys.uid.but("the group's number, as `uid`; it is no user's")
