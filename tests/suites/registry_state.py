"""The registries of containers of all nodes, and what the ordinary user can do there. One command on each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.suite import CheckFailed
from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.probe import registry as probe
from hpcstate.probe.registry import RegistryState
from hpcstate.registry import catalog
from hpcstate.registry import layout as registry
from hpcstate.registry.layout import META, ROOT, Catalog, Stored

_SECTION = "=== user\n"
_SECONDS = 600
_KEPT = f"{META}/hpcstate-kept.sif"

_ACCESS = Path(__file__).with_name("registry_access.sh")


@dataclass(frozen=True)
class NodeRegistry:
    """One node: what lies in its registry, and what its ordinary user may do and should not, or cannot and
    should (sentences without a subject)."""

    name: str
    state: RegistryState
    access: tuple[str, ...]


def look_at_registries(live: Live) -> Mapping[str, NodeRegistry]:
    """Every node's registry, by node; digests are those recorded where size, inode and time are."""
    user = f"runuser -u {JOB_USER} -- sh -c {shlex.quote(programs.command(_ACCESS, arguments=[ROOT]))}"
    script = f"{probe.command()}\nprintf '{_escaped(_SECTION)}'\n{user}"
    answers = live.run_each({node.name: script for node in live.nodes}, user="root", timeout=_SECONDS)
    found = {}
    for name, answer in answers.items():
        state, _, access = answer.stdout.partition(_SECTION)
        found[name] = NodeRegistry(name, probe.parse(state), tuple(access.splitlines()))
    return found


@pytest.fixture(scope="session")
def registries(live: Live) -> Mapping[str, NodeRegistry]:
    """What :func:`look_at_registries` found."""
    return look_at_registries(live)


@pytest.fixture(scope="session")
def rehashed(live: Live) -> Mapping[str, RegistryState]:
    """Every node's registry with all of its files hashed now."""
    command = probe.command(rehash=True)
    answers = live.run_each({node.name: command for node in live.nodes}, user="root", timeout=_SECONDS)
    return {name: probe.parse(answer.stdout) for name, answer in answers.items()}


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n")


@pytest.fixture(scope="session")
def controllers_catalog(live: Live, registries: Mapping[str, NodeRegistry]) -> Catalog:
    """The catalog of the cluster, as the controller has it."""
    return read_catalog(live, registries)


def read_catalog(live: Live, found: Mapping[str, NodeRegistry]) -> Catalog:
    """The catalog of the cluster; raises CheckFailed when the controller's cannot be read."""
    name = live.cluster.controller.name
    try:
        return catalog.parse(found[name].state["catalog"], f"{name}:{registry.CATALOG}")
    except HpcstateError as error:
        raise CheckFailed(
            "a catalog on the controller", f"{error.where}: {error.message}", error.hint
        ) from error


def declared(live: Live) -> tuple[Stored, ...]:
    """The current versions of the containers that the cluster file names, as far as the catalog has them."""
    known = read_catalog(live, look_at_registries(live))
    names = live.cluster.containers.deploy
    return tuple(stored for stored in known.stored if stored.name in names and known.is_current(stored))


# breaking


@contextmanager
def replaced(live: Live, node: str, stored: Stored, by: str) -> Iterator[None]:
    """Put what the shell commands ``by`` make of ``$kept`` (the original) at ``$file``, and the original back
    afterwards: the same inode, with its times. What a killed run left is put back first."""
    file = f"{ROOT}/{stored.file}"
    restore = f"[ ! -e {_KEPT} ] || mv -f {_KEPT} {file}"
    try:
        live.run(
            node,
            f"set -e\nfile={file}; kept={_KEPT}\n{restore}\nmv $file $kept\n{by}",
            user="root",
            timeout=120,
        )
        yield
    finally:
        live.run(node, restore, user="root")


def own(file: str) -> str:
    """Shell that gives ``file`` the owner and mode of the registry's files."""
    return f"chown {registry.OWNER} {file}; chmod {registry.FILE_MODE} {file}"
