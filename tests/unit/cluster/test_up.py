"""What a person reads at the end of `./hpc up`."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.check.proof import Proof, configuration_digest, write_proof
from hpcstate.check.suite import CheckResult
from hpcstate.cluster import up
from hpcstate.cluster.pyinfra import DeployReport
from hpcstate.cluster.up import proof_text
from hpcstate.errors import HpcstateError
from hpcstate.paths import ClusterPaths


@pytest.mark.parametrize(
    ("boots", "proves"),
    [
        ({"controller": "a", "compute-01": "b", "compute-02": "c"}, False),
        ({"controller": "a", "compute-01": "b", "compute-02": "another"}, True),
        ({"controller": "a", "compute-01": "b"}, True),
    ],
    ids=["the same boots", "a node was restarted", "a node does not answer"],
)
def test_a_proof_stands_for_the_boots_it_was_made_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, boots: dict[str, str], proves: bool
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    file = paths.ROOT / "inventories" / "gpu.yaml"
    (cluster,) = up._description(file).clusters
    made = {"controller": "a", "compute-01": "b", "compute-02": "c"}
    known = Proof(
        cluster.name,
        str(file),
        datetime(2026, 11, 26, tzinfo=UTC),
        configuration_digest(cluster),
        True,
        1.0,
        (result("nodes.srun", "passed"),),
        boots=made,
    )
    write_proof(known, ClusterPaths.of(cluster.name).proof)
    proved: list[str] = []

    def prove(*_: object, **__: object) -> Proof:
        proved.append("again")
        return known

    monkeypatch.setattr(up, "_boots", lambda _: boots)
    monkeypatch.setattr(up, "prove", prove)
    up.check(file)
    assert bool(proved) is proves


def result(name: str, outcome: str, reason: str = "") -> CheckResult:
    return CheckResult(name, f"title of {name}", outcome, 1.0, "", "", "", reason)  # type: ignore[arg-type]


def test_a_line_a_suite_and_a_line_a_reason() -> None:
    needs = "needs the container mpi-minimal, the cluster file names none"
    proof = Proof(
        cluster="gpu",
        file="inventories/gpu.yaml",
        when=datetime(2026, 11, 26, tzinfo=UTC),
        configuration="",
        complete=True,
        seconds=1.0,
        results=(
            result("nodes.clock", "passed"),
            result("nodes.srun", "passed"),
            result("container-integration.mpi", "skipped", needs),
            result("container-integration.cuda", "skipped", "needs a GPU"),
            result("container-integration.scale", "skipped", needs),
        ),
    )
    assert proof_text(proof).splitlines() == [
        "Proven on the live cluster: 2 passed, 3 skipped",
        "  nodes                  2 passed",
        "  container-integration  0 passed, 3 skipped",
        "Skipped:",
        f"    2  {needs}",
        "    1  needs a GPU",
        "Each check by name: hpcstate check inventories/gpu.yaml --list; what was seen: build/gpu/proof.html",
    ]


def test_only_what_did_not_pass_is_told_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    up._tell(Path("x.yaml"), result("nodes.srun", "passed"))
    up._tell(Path("x.yaml"), result("mpi.two_nodes", "skipped", "needs 2 compute nodes"))
    assert capsys.readouterr().out == ""
    up._tell(Path("x.yaml"), result("nodes.clocks", "failed"))
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "deploys", "refused"),
    [
        (("compute-01", "compute-03"), ("compute-01",), 1, False),
        (("compute-01", "compute-03"), ("compute-01", "compute-03"), 1, True),
        (("compute-01",), ("compute-01",), 0, False),
        ((), (), 0, False),
    ],
    ids=["it goes", "the deploy did not take it out", "Slurm does not know it", "slurmctld is silent"],
)
def test_a_node_is_out_of_slurm_before_its_machine_goes(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[str, ...],
    after: tuple[str, ...],
    deploys: int,
    refused: bool,
) -> None:
    file = paths.ROOT / "inventories" / "gpu.yaml"
    (cluster,) = up._description(file).clusters
    done: list[str] = []
    monkeypatch.setattr(up, "slurm_nodes", lambda _: dict.fromkeys(after if done else before))
    monkeypatch.setattr(up, "deploy_now", lambda *_: done.append("deploy"))
    with pytest.raises(HpcstateError, match="Slurm still has compute-03") if refused else nullcontext():
        up.out_of_slurm(cluster, file, ["compute-03"], lambda _: None)
    assert len(done) == deploys


def test_a_file_that_is_edited_while_it_is_carried_out_is_deployed_by_the_next_run_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text((paths.ROOT / "inventories" / "gpu.yaml").read_text())
    deployed: list[str] = []

    def deploy(*_: object, **__: object) -> DeployReport:
        deployed.append("once")
        return DeployReport((), (), 1.0)

    monkeypatch.setattr(up, "run_deploy", deploy)
    up.deploy_now(file, print)
    file.write_text(f"# a comment\n{file.read_text()}")
    up.deploy_now(file, print)
    file.write_text(file.read_text().replace("count: 2", "count: 3"))
    with pytest.raises(HpcstateError, match="changed while this run went on"):
        up.deploy_now(file, print)
    assert deployed == ["once", "once"]
