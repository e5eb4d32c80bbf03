"""The directory of people answers every node, which takes nothing from a stranger in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, LdapDirectory
from hpcstate.node.directory import CA, CONF, DEBIANS_CA
from hpcstate.node.ssh import Live
from hpcstate.terminal import plural
from tests.suites.breaking import last_worker, mode, moved, stopped

PROGRAM = Path(__file__).with_name("directory_look.sh")
LONGEST = 15
"""Seconds that one may wait who asks for a name that nobody has: sssd.conf bounds each of its steps."""

_SECONDS = 180


def test_directory(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """The directory answers every node, by a certificate that is verified, and says the same on all"""
    directory = cluster.directory
    if directory is None:
        pytest.skip("the cluster file has no directory")
    names = [node.name for node in live.nodes]
    answers = live.run_each(dict.fromkeys(names, _look(cluster, directory)), user="root", timeout=_SECONDS)
    findings, numbers = [], dict[str, set[str]]()
    for name, answer in answers.items():
        lines = answer.stdout.splitlines()
        findings += [f"{name}: {text}" for text in _wrong(lines)]
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind in ("group", "person"):
                number, _, who = rest.partition(" ")
                numbers.setdefault(who, set()).add(number)
    findings += [
        f"{who} has the numbers {', '.join(sorted(has))}" for who, has in numbers.items() if len(has) > 1
    ]
    if findings:
        raise CheckFailed(
            f"{', '.join(directory.uri)} answers {plural(len(answers), 'node')}",
            "; ".join(findings),
            f"journalctl -u sssd and /var/log/sssd on the node; {DEPLOY_AGAIN}",
        )
    record_property(
        "observed", f"{plural(len(answers), 'node')}: {_silent(answers[live.nodes[0].name].stdout)}"
    )


def _look(cluster: Cluster, directory: LdapDirectory) -> str:
    own = {user.name for user in cluster.users}
    people = [each.name for each in cluster.accounting.users if each.name not in (*own, "hpc")]
    ca = "" if directory.tls == "none" else CA if directory.ca_file else DEBIANS_CA
    words = (*directory.uri, "--", *directory.allow_groups, "--", *people)
    return programs.command(PROGRAM, arguments=words, conf=CONF, ca=ca)


def _wrong(lines: list[str]) -> Iterator[str]:
    """What is not as it should be on a node that says ``lines``."""
    if "sssd active" not in lines:
        yield "sssd does not run"
    if "conf 600 root" not in lines:
        yield f"{CONF} is not there, or not root's alone"
    servers = [line.removeprefix("server ") for line in lines if line.startswith("server ")]
    if not any(server.endswith(" ok") for server in servers):
        yield ", ".join(servers) or "nothing is said of a server"
    yield from (
        f"the directory has no {line.removeprefix('unknown ')}" for line in lines if line[:8] == "unknown "
    )
    waits = next((line.removeprefix("seconds ") for line in lines if line.startswith("seconds ")), "")
    if not waits.isdecimal() or int(waits) > LONGEST:
        yield f"one waits {waits or 'too many'} s for a name that nobody has"


def _silent(said: str) -> str:
    """The servers, and which of them do not answer."""
    servers = [line.removeprefix("server ") for line in said.splitlines() if line.startswith("server ")]
    return ", ".join(servers)


@fault("sssd does not run on a node", "users.directory")
def no_sssd(live: Live) -> Iterator[None]:
    _skip_without(live)
    with stopped(live, last_worker(live).name, "sssd"):
        yield


@fault("a node has no certificates to verify the directory by", "users.directory")
def no_certificates(live: Live) -> Iterator[None]:
    directory = _skip_without(live)
    if directory.ca_file is None:
        pytest.skip("the cluster file has no directory.ldap.ca_file")
    with moved(live, last_worker(live).name, CA):
        yield


@fault("everybody on a node can read the password of the directory", "users.directory")
def readable(live: Live) -> Iterator[None]:
    _skip_without(live)
    with mode(live, last_worker(live).name, CONF, "644"):
        yield


def _skip_without(live: Live) -> LdapDirectory:
    if live.cluster.directory is None:
        pytest.skip("the cluster file has no directory")
    return live.cluster.directory
