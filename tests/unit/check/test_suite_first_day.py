"""The suite first_day: its program runs here, with programs that stand in for Slurm, SSH and a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.runner import load_suites, run_checks
from hpcstate.check.suite import CheckResult
from hpcstate.model import AccountingSettings, Node, SimulatedGpus
from hpcstate.node.ssh import Live
from hpcstate.run import Result
from tests.suites.login import REFUSAL
from tests.unit.fake_live import TWO, FakeLive, failing

SUITES = load_suites()
CHECKS = [check for check in SUITES.checks if check.suite == "first-day"]
GPUS = tuple(
    replace(node, simulated_gpus=SimulatedGpus(2, "simulated")) if node.role == "compute" else node
    for node in TWO.nodes
)
PARTITIONS = [part.name for part in TWO.slurm.partitions] if TWO.slurm else []
SHARED = replace(TWO, nodes=GPUS, home="nfs", accounting=AccountingSettings(on=True))

PROGRAMS = {
    # From a job to the other node, and without a job.
    "ssh": f"""for word; do last=$word; done
if [ -n "$IN_JOB" ]; then echo "${{SSH_SAYS-compute-02}}"
else echo "${{REFUSED-{REFUSAL}}}"; exit 255; fi""",
    "mpicc": """cat >/dev/null; good='[ $RANK = 1 ] || echo "{\\"size\\": 2, \\"sum\\": 1}"'
printf '#!/bin/sh\\n%s\\n' "${RING-$good}" >ring; chmod +x ring""",
    "srun": """RANK=0 "$@"; RANK=1 "$@" """,
    "hostname": """echo "$HOST" """,
    "sbatch": """out= wrap= script=
case "$*" in *no_such_feature*) echo "${CONSTRAINT-error: Invalid feature specification}"; exit 1;; esac
case "$*" in *--nice=0*) echo 21; exit;; *--nice=1000*) echo 22; exit;; esac
while [ $# -gt 0 ]; do
case $1 in --output=*) out=${1#*=};; --wrap) wrap=$2; shift;; job.sh) script=$1; shift; break;; esac
shift; done
[ -z "$NO_HOME" ] || exit 1
if [ -n "$script" ]; then echo 11; HOST=compute-01 IN_JOB=1 sh "$script" "$@" >slurm-11.out 2>&1
else echo 12; HOST=compute-02 sh -c "$wrap" >"out/$(basename "$PWD").txt"; fi""",
    "squeue": """case "$*" in
*PENDING*) printf 'priority 22 %s\\npriority 21 20000\\n' "${NICE-19000}";; esac""",
    "seff": """[ -z "$SEFF" ] || exit 127
printf '%s\\n' "Job ID: $1" "State: COMPLETED (exit code 0)" "Nodes: 2" "Cores per node: 1" \
"CPU Efficiency: 50.00% of 00:00:10 core-walltime" """,
    "python3": """mkdir -p env/bin; printf '#!/bin/sh\\necho "prefix ${PREFIX-$PWD/env}"\\n' >env/bin/python
chmod +x env/bin/python""",
    "sleep": ":",
}


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of the programs; empty it means that all is well."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    home = tmp_path / "hpc"
    home.mkdir()
    changes: dict[str, str] = {}

    def login(live: Live, node: Node, script: str, *, seconds: float = 30) -> Result:
        del live, seconds
        assert node.name == "controller"
        if "bash -lic" in script:
            shown = "".join(f"{name}* 2 2 0 0\n" for name in PARTITIONS)
            return Result(("ssh",), 0, changes.get("MOTD", f"PARTITION NODES IDLE ALLOC DOWN\n{shown}"), "")
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), **changes}
        done = subprocess.run(
            ["dash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return Result(("ssh",), done.returncode, done.stdout, done.stderr)

    # The checks are in modules of their own, whatever the way by which pytest imported them.
    for name, module in list(sys.modules.items()):
        if name.endswith("test_day") and hasattr(module, "login"):
            monkeypatch.setattr(module, "login", login)
            monkeypatch.setattr(module, "HOME", str(tmp_path))
    yield changes
    shutil.rmtree(home)


def checked(changes: dict[str, str]) -> dict[str, CheckResult]:
    def answer(node: str, script: str) -> Result | str:
        del node
        if script.startswith("runuser"):
            return changes.get("SECOND", "") or failing(1, "cat: job.sh: Permission denied")
        return ""

    results = run_checks(CHECKS, FakeLive(answer, SHARED), lambda _: None)
    return {result.name.partition(".")[2]: result for result in results}


def test_a_day_on_which_all_is_well(outcomes: dict[str, str]) -> None:
    results = checked(outcomes)
    assert {name: result.outcome for name, result in results.items()} == dict.fromkeys(results, "passed"), (
        results
    )
    assert "50.00% of" in results["seff"].observed


@pytest.mark.parametrize(
    ("change", "said", "red"),
    [
        ({"NO_HOME": "1"}, "No such file", {"output", "own_program", "venv", "ssh", "seff", "constraint"}),
        ({"RING": 'echo \'{"size": 1, "sum": 0}\''}, "'size': 1", {"own_program"}),
        ({"PREFIX": "/usr"}, "0 of 2 tasks", {"venv"}),
        ({"SSH_SAYS": "Host key verification failed."}, "verification failed", {"ssh"}),
        ({"REFUSED": "alice@compute-02: Permission denied (publickey)."}, "(publickey)", {"ssh"}),
        ({"SEFF": "gone"}, "State: nothing", {"seff"}),
        ({"CONSTRAINT": "13"}, "--constraint=no_such_feature: 13", {"constraint"}),
        ({"NICE": "20000"}, "20000 and 20000", {"nice"}),
        ({"SECOND": "the text"}, "reads a file", {"second_user"}),
        ({"MOTD": "slurmctld does not answer within 2 s\n"}, "nothing of", {"motd"}),
    ],
)
def test_what_a_day_tells(outcomes: dict[str, str], change: dict[str, str], said: str, red: set[str]) -> None:
    outcomes |= change
    results = checked(outcomes)
    failed = {name: result for name, result in results.items() if result.outcome == "failed"}
    assert failed.keys() == red, results
    assert any(said in result.observed for result in failed.values()), failed
