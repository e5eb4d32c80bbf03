"""What a person reads at the end of `./hpc up`."""

from __future__ import annotations

from datetime import UTC, datetime

from hpcstate.check.proof import Proof
from hpcstate.check.suite import CheckResult
from hpcstate.cluster.up import proof_text


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
