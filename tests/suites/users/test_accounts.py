"""The people of the cluster file are the same on every node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.node.base_files import KEYS
from hpcstate.node.ssh import Live
from hpcstate.node.users import Step, obstacles, steps, wanted_users
from hpcstate.probe import users
from hpcstate.terminal import plural
from tests.suites.breaking import Edit, append, edited, last_worker


def test_accounts(live: Live, record_property: RecordProperty) -> None:
    """Each user of the file is the same account on every node, with the keys of the file and no others"""
    cluster = live.cluster
    if not cluster.users:
        pytest.skip("the cluster file has no users")
    wanted = {node.name: wanted_users(cluster, node) for node in live.nodes}
    answers = live.run_each(
        {name: users.command(**people.question) for name, people in wanted.items()}, user="root"
    )
    findings = []
    for name, people in wanted.items():
        found = users.parse(answers[name].stdout)
        wrong = obstacles(people, found) or [_said(step) for step in steps(people, found)]
        findings += [f"{name}: {text}" for text in wrong]
    if findings:
        raise CheckFailed(
            f"{plural(len(cluster.users), 'user')} as the file says on {plural(len(wanted), 'node')}",
            "; ".join(findings),
            DEPLOY_AGAIN,
        )
    names = ", ".join(user.name for user in cluster.users)
    record_property("observed", f"{names} on {plural(len(wanted), 'node')}")


def _said(step: Step) -> str:
    """A difference in words, by the step that mends it."""
    action, *words = step
    words_of = {
        "group": "there is no group {0}",
        "user": "there is no account {0}",
        "own": "{0} is not in a group of their own",
        "change": "{0} has another shell, name or home",
        "join": "{0} is not in {1}",
        "quit": "{0} is in {1}",
        "leave": "{0} is not locked",
        "back": "{0} is locked",
        "home": "{0} has no home",
        "keys": "other keys open {0}",
        "sudoers": "others may become root",
    }
    return words_of[action].format(*words)


@fault("a key that is not in the file opens a user's account on a node", "users.accounts")
def another_key(live: Live) -> Iterator[None]:
    path = f"{KEYS}/{next(user.name for user in live.cluster.users if user.ssh_keys)}"
    with edited(live, [Edit(last_worker(live).name, path, append("ssh-ed25519 AAAA somebody"))]):
        yield
