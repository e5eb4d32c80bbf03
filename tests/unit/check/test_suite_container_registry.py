"""The suite container-registry on nodes whose registries are folders here: sound, broken, mended.

What the ordinary user may do is tried on real nodes only (tests/lab): here there is one user.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import CheckResult, Fault
from hpcstate.model import ContainerSettings
from hpcstate.registry import deploy as container_deploy
from hpcstate.registry import layout as registry
from hpcstate.registry import scripts as registry_scripts
from hpcstate.registry.deploy import deploy
from hpcstate.registry.source import of_file
from tests.unit.fake_live import TWO
from tests.unit.registry_nodes import LocalNodes, nodes, sif_file

__all__ = ["nodes"]

SUITES = load_suites()
CHECKS = SUITES.select("container-registry")
NAMES = {check.name for check in CHECKS}
FAULTS = [fault for fault in SUITES.faults if NAMES & set(fault.checks)]
ACCESS, HASHED = "container-registry.access", "container-registry.content"
DECLARED = replace(TWO, containers=ContainerSettings(deploy=("mpi-minimal",)))


@pytest.fixture
def live(nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNodes:
    """Two nodes and a controller that have what is declared."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(container_deploy, "demand_whole", lambda *_: None)
    (tmp_path / "bin/runuser").write_text("#!/bin/sh\n")
    (tmp_path / "bin/runuser").chmod(0o755)
    source = of_file(sif_file(tmp_path / "a.sif", b"x" * 9000), name="mpi-minimal", category="base-images")
    assert deploy(DECLARED, [source], lambda *_: None, open_live=nodes).complete
    return nodes(DECLARED)


def outcomes(live: LocalNodes, *names: str) -> dict[str, CheckResult]:
    checks = [check for check in CHECKS if not names or check.name in names]
    return {result.name: result for result in run_checks(checks, live, lambda _: None)}


def test_a_sound_registry_passes(live: LocalNodes) -> None:
    found = outcomes(live)
    assert {name: result.outcome for name, result in found.items()} == dict.fromkeys(NAMES, "passed"), found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.description)
def test_each_fault_turns_its_checks_red_and_is_mended(live: LocalNodes, fault: Fault) -> None:
    names = sorted({*fault.checks} - {ACCESS})
    with fault.injected(live):
        broken = outcomes(live)
    red = sorted(name for name, result in broken.items() if result.outcome != "passed")
    # Hashing everything sees most of them too, but is not asked to: it takes long on slow nodes.
    assert sorted({*red} - ({HASHED} - {*names})) == names, broken
    assert {broken[name].outcome for name in names} == {"failed"}
    mended = outcomes(live)
    assert {result.outcome for result in mended.values()} == {"passed"}, mended


def test_a_cluster_that_declares_nothing_passes(
    nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    (tmp_path / "bin/runuser").write_text("#!/bin/sh\n")
    (tmp_path / "bin/runuser").chmod(0o755)
    live = nodes(TWO)
    for node in TWO.nodes:
        live.run(
            node.name,
            registry_scripts.layout(registry.config_text("test", TWO.containers)),
            user="root",
        )
    found = outcomes(live)
    assert {result.outcome for result in found.values()} == {"passed"}, found


def test_a_container_that_was_built_anew_is_to_be_deployed(live: LocalNodes) -> None:
    sidecar = paths.sidecar(paths.container("mpi-minimal"))
    sidecar.parent.mkdir(parents=True)
    sidecar.write_text('{"key": "k", "digest": "%s", "size": 1, "duration": 1.0}' % ("d" * 64))
    result = outcomes(live, "container-registry.declared")["container-registry.declared"]
    assert result.outcome == "failed"
    assert "built is dddddddddddd" in result.observed


def test_access_is_what_the_user_could_do(live: LocalNodes, tmp_path: Path) -> None:
    (tmp_path / "bin/runuser").write_text("#!/bin/sh\necho 'may write base-images'\n")
    result = outcomes(live, ACCESS)[ACCESS]
    assert result.outcome == "failed"
    assert "compute-02: hpc may write base-images" in result.observed
