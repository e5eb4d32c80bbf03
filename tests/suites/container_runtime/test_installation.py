"""Apptainer, its settings and what users need of it are on every node as the cluster file wants them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, NEW_DISK, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster
from hpcstate.node import apptainer_files
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.probe import apptainer, text_files
from hpcstate.probe.apptainer import PROGRAMS, Apptainer, SubidRange, is_at_least
from hpcstate.probe.text_files import TextFileState
from tests.suites.breaking import Edit, append, edited, last_worker, mode, moved

_PART = "=== files"


@pytest.fixture(scope="session")
def installations(live: Live) -> dict[str, tuple[Apptainer, dict[str, TextFileState]]]:
    """Apptainer and the files of containers on every node, by its name."""
    files = tuple(apptainer_files.cluster_files(live.cluster.containers))
    # --version starts the program itself, as dpkg's word for it does not.
    script = (
        f"{apptainer.command()}\ntimeout 30 apptainer --version\necho '{_PART}'\n{text_files.command(files)}"
    )
    answers = live.run_each({node.name: script for node in live.nodes}, user="root")
    parts = {name: answer.stdout.split(f"{_PART}\n") for name, answer in answers.items()}
    return {
        name: (apptainer.parse(program_text), text_files.parse(files_text))
        for name, (program_text, files_text) in parts.items()
    }


def test_apptainer(
    installations: dict[str, tuple[Apptainer, dict[str, TextFileState]]], record_property: RecordProperty
) -> None:
    """An Apptainer that is new enough is on every node, with all that it needs and no setuid"""
    seen = {name: installation for name, (installation, _) in installations.items()}
    findings = [
        finding
        for name, installation in seen.items()
        for finding in installation_findings(name, installation)
    ]
    if findings:
        raise CheckFailed(
            f"Apptainer >= {apptainer_files.AT_LEAST}, {', '.join(PROGRAMS)}, and no setuid program",
            "; ".join(findings),
            NEW_DISK,
        )
    record_property(
        "observed", ", ".join(f"{name} {installation['version']}" for name, installation in seen.items())
    )


def installation_findings(name: str, installation: Apptainer) -> list[str]:
    """What is wrong with the programs of a node, one sentence each."""
    findings = []
    if not is_at_least(installation["version"], apptainer_files.AT_LEAST):
        findings.append(f"{name} has {installation['version'] or 'no Apptainer'}")
    findings += [
        f"{name} has no {program}" for program in PROGRAMS if program not in installation["programs"]
    ]
    return findings + [f"{name}: {path} runs as root" for path in installation["setuid"]]


def test_configuration(
    live: Live,
    cluster: Cluster,
    installations: dict[str, tuple[Apptainer, dict[str, TextFileState]]],
    record_property: RecordProperty,
) -> None:
    """apptainer.conf, oci.conf, the policy and container-exec of every node are those of the cluster file"""
    wanted = apptainer_files.cluster_files(cluster.containers)
    findings = [
        finding
        for name, (_, files) in installations.items()
        for finding in file_findings(name, files, wanted)
    ]
    if findings:
        raise CheckFailed("the files as rendered, root:root", "; ".join(findings), DEPLOY_AGAIN)
    record_property("observed", f"{len(wanted)} files on {len(live.nodes)} nodes")


def file_findings(name: str, files: Mapping[str, TextFileState], wanted: Mapping[str, str]) -> list[str]:
    """What is wrong with the files of a node, one sentence each."""
    findings = []
    for path, content in wanted.items():
        state = files.get(path)
        if state is None:
            findings.append(f"{name} has no {path}")
        elif state["sha256"] != hashlib.sha256(content.encode()).hexdigest():
            findings.append(f"{name}: {path} differs from what is rendered")
        elif (state["mode"], state["owner"]) != (apptainer_files.MODES.get(path, "644"), "root:root"):
            findings.append(f"{name}: {path} is {state['mode']} {state['owner']}")
    return findings


def test_users(
    live: Live,
    installations: dict[str, tuple[Apptainer, dict[str, TextFileState]]],
    record_property: RecordProperty,
) -> None:
    """Users may make user namespaces and open /dev/fuse, and have subordinate numbers, on every node"""
    findings = [
        finding
        for name, (installation, _) in installations.items()
        for finding in user_findings(name, installation)
    ]
    if findings:
        raise CheckFailed(
            f"user namespaces, /dev/fuse 666, and the range {_wanted()} of {JOB_USER}",
            "; ".join(findings),
            DEPLOY_AGAIN,
        )
    record_property(
        "observed", f"/dev/fuse 666 and the range {_wanted()} of {JOB_USER} on {len(live.nodes)} nodes"
    )


def user_findings(name: str, installation: Apptainer) -> list[str]:
    """What a user of a node cannot do, one sentence each."""
    findings = []
    if not installation["user_namespaces"]:
        findings.append(f"{name}: users may make no user namespaces (sysctl)")
    if installation["fuse_mode"] != "666":
        findings.append(
            f"{name}: /dev/fuse has the mode {installation['fuse_mode'] or 'of nothing: it is not there'}"
        )
    for path, ranges in (("/etc/subuid", installation["subuid"]), ("/etc/subgid", installation["subgid"])):
        own = [item for item in ranges if item["user"] == JOB_USER]
        if own != [_range()]:
            said = ", ".join(f"{item['start']}:{item['count']}" for item in own) or "nothing"
            findings.append(f"{name}: {path} gives {JOB_USER} {said}")
    return findings


def _range() -> SubidRange:
    start = apptainer_files.subid_start(apptainer_files.subid_users()[JOB_USER])
    return SubidRange(user=JOB_USER, start=start, count=apptainer_files.SUBIDS)


def _wanted() -> str:
    return f"{_range()['start']}:{_range()['count']}"


@fault("squashfuse is missing on a node", "container-runtime.apptainer")
def without_squashfuse(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, "/usr/bin/squashfuse"):
        yield


@fault(
    "apptainer.conf of a node binds /var of the host into every container",
    "container-runtime.configuration",
    "container-runtime.host_files",
)
def binds_more(live: Live) -> Iterator[None]:
    edit = Edit(last_worker(live).name, apptainer_files.CONF, append("bind path = /var"))
    with edited(live, [edit]):
        yield


@fault("/dev/fuse of a node is for root only, and containers start there no more", "container-runtime.users")
def fuse_closed(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, "/dev/fuse", "600"):
        yield


def _without_job_user(text: str) -> str:
    return re.sub(rf"(?m)^{JOB_USER}:.*\n", "", text)


@fault("a user of a node has lost the subordinate numbers", "container-runtime.users")
def without_subuid(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    with edited(live, [Edit(name, "/etc/subuid", _without_job_user)]):
        yield
