"""The operation on the registry of containers: layout, declared containers, change, noop."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.model import ContainerSettings
from hpcstate.paths import ROOT
from hpcstate.probe.registry import parse
from hpcstate.registry import catalog
from hpcstate.registry import layout as registry
from hpcstate.registry.delivery import Delivery, shared
from hpcstate.registry.deploy import DeployResult, NodeResult
from hpcstate.registry.layout import Catalog, Stored
from operations import registry as operation
from tests.operations.harness import FakeHost, Outcome, run

NODE = "compute-01"
CONFIG = registry.config_text("lab", ContainerSettings(deploy=("mpi-minimal",)))
ONE = Stored("mpi-minimal", "base-images", "1.0", "a" * 64, 300, True, "2026-11-22T07:06:52+00:00")
NEW = Stored("mpi-minimal", "base-images", "1.1", "b" * 64, 400, False, "")


def sound(*stored: Stored) -> Any:
    """A registry that has ``stored``, the last of a name current."""
    known = Catalog()
    for version in stored:
        known = known.with_current(version)
    state = parse("")
    state["folders"] = {
        path.removeprefix(registry.ROOT).removeprefix("/"): {"mode": mode, "owner": owner}
        for path, (mode, owner) in registry.folders().items()
    }
    state["files"] = {
        version.file: {
            "mode": "644",
            "owner": "root:slurm",
            "size": version.size,
            "sha256": version.digest,
            "hashed": False,
        }
        for version in stored
    }
    state["links"] = known.links_on(NODE)
    state["catalog"], state["config"] = catalog.write(known) if stored else "", CONFIG
    return state


def planned(state: Any, *wanted: Stored, deliver: Callable[..., str] = lambda *_: "") -> Outcome:
    facts = {"facts.registry.Registry": state}
    return run(operation.state, NODE, CONFIG, wanted, deliver, facts=facts)


def kinds(outcome: Outcome) -> list[str]:
    return [
        str(command.get("function", command.get("command")))
        for command in outcome.commands
        if isinstance(command, dict)
    ]


def test_an_empty_node_is_laid_out_and_gets_what_is_declared() -> None:
    outcome = planned(parse(""), ONE)
    assert kinds(outcome) == ["sh -s", "_receive"]
    (layout, _) = outcome.commands
    assert isinstance(layout, dict)
    assert "set -- layout /opt/containers 755 root:slurm " in layout["_stdin"]
    assert shlex.quote(CONFIG) in layout["_stdin"]


def test_a_full_catalog_stops_this_host_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_MOST_ITEMS", 1)
    outcome = planned(sound(ONE), replace(ONE, name="another"))
    assert kinds(outcome) == ["fail"]
    assert "container prune" in str(outcome.commands)


def test_nothing_declared_is_only_laid_out() -> None:
    assert kinds(planned(parse(""))) == ["sh -s"]
    outcome = planned(sound())
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


@pytest.mark.parametrize("wanted", [(), (ONE,)])
def test_a_sound_registry_is_left_alone(wanted: tuple[Stored, ...]) -> None:
    outcome = planned(sound(ONE), *wanted)
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def change(**parts: Any) -> Any:
    state = copy.deepcopy(sound(ONE))
    for key, value in parts.items():
        state[key] = value
    return state


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (change(files={}), (ONE,)),
        (change(files={}), ()),
        (change(links={}), (ONE,)),
        (change(catalog=""), (ONE,)),
        (change(catalog="schema: ["), (ONE,)),
        (sound(ONE), (NEW,)),
        (sound(ONE, NEW), (ONE,)),
    ],
)
def test_what_differs_is_delivered(state: Any, wanted: tuple[Stored, ...]) -> None:
    assert kinds(planned(state, *wanted)) == ["_receive"]


def test_a_container_that_some_nodes_have_is_delivered_to_all_once_it_is_declared() -> None:
    some = Stored(**{**vars(ONE), "nodes": ("compute-01", "controller")})
    assert kinds(planned(sound(some))) == []
    assert kinds(planned(sound(some), ONE)) == ["_receive"]


def test_strangers_are_left_alone() -> None:
    outcome = planned(change(others=["base-images/x"]), ONE)
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


# at execution


@pytest.mark.parametrize(("why", "succeeds"), [("", True), ("no space", False)])
def test_the_host_fails_with_the_reason(why: str, succeeds: bool) -> None:
    asked: list[tuple[str, Sequence[str]]] = []

    def deliver(node: str, serve: Sequence[str], say: Callable[[str, str], None]) -> str:
        asked.append((node, serve))
        return why

    host = FakeHost({})
    state = SimpleNamespace(active_hosts=[SimpleNamespace(name=name) for name in ("controller", NODE)])
    assert operation._receive(state, host, NODE, deliver) is succeeds
    assert asked == [(NODE, [NODE, "controller"])]
    assert host.said == ([] if succeeds else ["stops here: containers: no space"])


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch) -> tuple[Delivery, list[Any]]:
    """A delivery to two nodes, of which one fails, and the deploys that it made."""
    cluster = SimpleNamespace(
        name="lab",
        containers=ContainerSettings(),
        nodes=[SimpleNamespace(name=name) for name in ("controller", NODE)],
    )
    made: list[Any] = []

    def deploy(*args: Any, **options: Any) -> DeployResult:
        made.append(options["serve"])
        nodes = (
            NodeResult("controller", "changed", 1),
            NodeResult(NODE, "failed", 1, message="full", hint="prune"),
        )
        return DeployResult("lab", "rsync", (), nodes, 1.0)

    monkeypatch.setattr("hpcstate.registry.delivery.deploy", deploy)
    return Delivery(cluster), made  # type: ignore[arg-type]


def test_a_run_delivers_once_and_each_host_gets_its_own_outcome(delivery: tuple[Delivery, list[Any]]) -> None:
    delivering, made = delivery
    serve = ["@local", NODE, "controller"]
    assert delivering.to("controller", serve, lambda *_: None) == ""
    assert delivering.to(NODE, serve, lambda *_: None) == "full\nprune"
    assert (
        delivering.to("compute-02", serve, lambda *_: None) == "it was not among the nodes that were served"
    )
    assert made == [["controller", NODE]]


def test_what_stops_the_deploy_is_told_to_every_host(
    delivery: tuple[Delivery, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(*_: Any, **__: Any) -> DeployResult:
        raise HpcstateError("silent", where="controller")

    monkeypatch.setattr("hpcstate.registry.delivery.deploy", deploy)
    assert delivery[0].to(NODE, [NODE, "controller"], lambda *_: None) == "controller: silent"


def test_all_hosts_of_a_run_share_one_delivery() -> None:
    """pyinfra executes a deploy's file anew for each host: what its own globals keep is not shared."""
    cluster = SimpleNamespace(name="only-here", containers=ContainerSettings(), nodes=[])
    assert shared(cluster) is shared(cluster)  # type: ignore[arg-type]
    assert "shared(this.cluster)" in (ROOT / "deploys/registry.py").read_text()
