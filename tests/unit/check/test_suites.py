"""The checks of the live cluster, against nodes that answer from a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.check.jobs import together
from hpcstate.check.runner import load_suites, run_check
from hpcstate.check.suite import CheckFailed, CheckResult
from hpcstate.model import Cluster, MailSettings, Partition
from hpcstate.node import runs
from hpcstate.node.ssh import Live, UnreachableError
from hpcstate.probe.node_runs import NodeRuns
from hpcstate.run import Result
from hpcstate.slurm.conf import job_record
from tests.suites.breaking import append, set_key
from tests.suites.nodes.test_system import verdicts
from tests.suites.slurm import gres_counts, reports
from tests.unit.fake_live import TWO, Answer, FakeLive, a_cluster, a_node, failing, timed_out

SUITES = load_suites()


def a_live(cluster: Cluster) -> Live:
    return FakeLive(lambda node, script: "", cluster)


def run_named(name: str, answer: Answer) -> CheckResult:
    (check,) = SUITES.select(name=name)
    return run_check(check, FakeLive(answer))


def a_slurm_node(name: str, **changes: object) -> Mapping[str, object]:
    node: dict[str, object] = {
        "name": name,
        "state": ["IDLE"],
        "reason": "",
        "reason_set_by_user": "",
        "gres": "gpu:simulated:2(S:0)",
        "gres_used": "gpu:simulated:0(IDX:N/A)",
        "cpus": 2,
        "alloc_cpus": 0,
        "real_memory": 1751,
        "version": "24.11.5",
    }
    return {**node, **changes}


def nodes_json(*nodes: Mapping[str, object]) -> str:
    return json.dumps({"nodes": list(nodes)})


SOUND = (a_slurm_node("compute-01"), a_slurm_node("compute-02"))


def test_registered() -> None:
    result = run_named("nodes.registered", lambda node, script: nodes_json(*SOUND))
    assert result.outcome == "passed"
    assert "compute-02 IDLE, 2 CPUs, 1751 MiB, gpu:simulated:2" in result.observed


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"state": ["IDLE", "DRAIN"], "reason": "disk"}, "compute-02 is IDLE+DRAIN (disk)"),
        ({"state": ["DOWN", "NOT_RESPONDING"]}, "compute-02 is DOWN+NOT_RESPONDING"),
        ({"state": ["IDLE", "INVALID_REG"]}, "INVALID_REG"),
        ({"state": []}, "compute-02 is "),
        ({"cpus": 1}, "has 1 CPUs, declared are 2"),
        ({"real_memory": 1024}, "gives jobs 1024 MiB"),
        ({"gres": "gpu:simulated:1"}, "has GRES gpu:simulated:1, declared is gpu:simulated:2"),
        ({"gres": ""}, "has GRES none"),
        ({"name": "compute-03"}, "compute-02 is not registered; compute-03 is not in the cluster file"),
    ],
)
def test_registered_fails(second: Mapping[str, object], words: str) -> None:
    text = nodes_json(SOUND[0], a_slurm_node(**{"name": "compute-02", **second}))  # type: ignore[arg-type]
    result = run_named("nodes.registered", lambda node, script: text)
    assert result.outcome == "failed"
    assert words in result.observed


@pytest.mark.parametrize(
    ("second", "somebody", "up"),
    [
        ({"reason": "fan", "reason_set_by_user": "root"}, True, False),
        ({"reason": "fan : Not responding", "reason_set_by_user": "slurm"}, True, False),
        ({"reason": "Kill task failed", "reason_set_by_user": "slurm"}, False, True),
        ({"reason": "hpcstate: stop", "reason_set_by_user": "root"}, False, True),
    ],
)
def test_the_next_step_of_a_drain_is_whose_it_is(
    second: Mapping[str, object], somebody: bool, up: bool
) -> None:
    node = a_slurm_node("compute-02", **{"state": ["IDLE", "DRAIN"], **second})
    result = run_named("nodes.registered", lambda *_: nodes_json(SOUND[0], node))
    assert ("nodename=compute-02 state=resume" in result.hint, "hpc up FILE" in result.hint) == (somebody, up)


def test_a_silent_slurmctld_is_a_failure() -> None:
    assert (
        run_named("nodes.registered", lambda node, script: "").expected == "slurmctld on controller answers"
    )


def test_srun_on_every_node() -> None:
    assert run_named("nodes.srun", lambda node, script: "compute-02\ncompute-01\n").outcome == "passed"


@pytest.mark.parametrize(
    "hosts", ["compute-01\n", "compute-01\ncompute-01\n", "", "compute-01\ncompute-03\n"]
)
def test_srun_on_other_nodes_fails(hosts: str) -> None:
    assert run_named("nodes.srun", lambda node, script: hosts).outcome == "failed"


def test_srun_that_hangs_is_cancelled_and_fails() -> None:
    live = FakeLive(lambda node, script: timed_out() if script.startswith("srun") else "")
    result = run_check(SUITES.select(name="nodes.srun")[0], live)
    assert (result.outcome, "did not end within 30 s" in result.observed) == ("failed", True)
    assert any(script.startswith("scancel --quiet --name=hpcstate-check-") for _, _, script in live.scripts)


@pytest.mark.parametrize(
    ("queue", "outcome"),
    [
        ("train|7|alice|RUNNING\n", "skipped"),
        ("hpcstate-check-12|8|hpc|COMPLETING\n", "failed"),
        ("", "failed"),
    ],
)
def test_a_busy_cluster_is_not_a_broken_one(queue: str, outcome: str) -> None:
    refused = failing(1, "srun: error: Unable to allocate resources: Requested nodes are busy")
    result = run_named("nodes.srun", lambda node, script: refused if script.startswith("srun") else queue)
    assert result.outcome == outcome
    if outcome == "skipped":
        assert result.reason == "the cluster is busy: job 7 of alice is running"


def munge_answer(status: str, uid: str = "admin (1000)", encode: str = "MUNGE:x:") -> Answer:
    def answer(node: str, script: str) -> Result | str:
        if script.startswith("munge"):
            return encode or failing(1, "munge: Error: Failed to access socket")
        senders = [line.split(" of ")[1].split("'")[0] for line in script.splitlines() if " of " in line]
        lines = (f"=== credential of {sender}\nSTATUS:  {status}\nUID:  {uid}\n" for sender in senders)
        return "".join(lines)

    return answer


def test_munge() -> None:
    result = run_named("nodes.munge", munge_answer("Success (0)"))
    assert (result.outcome, result.observed) == ("passed", "6 ordered pairs of 3 nodes")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            munge_answer("Invalid credential (8)"),
            "compute-01 refuses that of controller: Invalid credential (8)",
        ),
        (munge_answer("Success (0)", uid="nobody (99)"), "it decodes as nobody"),
        (
            munge_answer("Success (0)", encode=""),
            "controller cannot encode: munge: Error: Failed to access socket",
        ),
        (lambda node, script: "" if "unmunge" in script else "MUNGE:x:", "0 answered"),
    ],
    ids=["another key", "another user", "munge stopped", "no answer"],
)
def test_munge_fails(answer: Answer, words: str) -> None:
    result = run_named("nodes.munge", answer)
    assert result.outcome == "failed"
    assert words in result.observed


def test_munge_without_a_status_says_what_it_said() -> None:
    assert verdicts("=== credential of a\nunmunge: Error: no socket\n") == {"a": "unmunge: Error: no socket"}


@pytest.mark.parametrize(("ahead", "outcome"), [(0.0, "passed"), (-30.0, "failed"), (2.0, "failed")])
def test_clocks(monkeypatch: pytest.MonkeyPatch, ahead: float, outcome: str) -> None:
    monkeypatch.setattr("tests.suites.nodes.test_system.time.time", lambda: 1000.0)
    result = run_named(
        "nodes.clocks", lambda node, script: f"{1000.0 + (ahead if node == 'compute-02' else 0)}\n"
    )
    assert result.outcome == outcome


@pytest.mark.parametrize(
    ("digests", "outcome"),
    [
        (("aaaa", "aaaa", "aaaa"), "passed"),
        (("aaaa", "aaaa", "bbbb"), "failed"),
        (("bbbb", "aaaa", "aaaa"), "failed"),
    ],
)
def test_configuration(digests: tuple[str, ...], outcome: str) -> None:
    of_node = dict(zip(("controller", "compute-01", "compute-02"), digests, strict=True))
    assert run_named("nodes.configuration", lambda node, script: of_node[node]).outcome == outcome


def test_configuration_that_is_nowhere_fails() -> None:
    answer = failing(2, "sh: cannot open /etc/slurm/slurm.conf")
    assert run_named("nodes.configuration", lambda node, script: answer).outcome == "failed"


@pytest.mark.parametrize(("lines", "outcome"), [("", "passed"), ("munge inactive\n", "failed")])
def test_daemons(lines: str, outcome: str) -> None:
    result = run_named("nodes.daemons", lambda node, script: lines if node == "compute-01" else "")
    assert result.outcome == outcome
    assert outcome == "passed" or result.observed == "compute-01: munge inactive"


@pytest.mark.parametrize(
    ("lines", "expected", "observed"),
    [
        ("", "compute-02 answers", "no route"),
        ("munge inactive\n", "every unit active", "munge inactive; compute-02 does not answer on SSH"),
    ],
)
def test_daemons_of_a_silent_node(lines: str, expected: str, observed: str) -> None:
    (check,) = SUITES.select(name="nodes.daemons")
    live = FakeLive(lambda node, script: lines if node == "compute-01" else "")
    live._dead = {"compute-02": UnreachableError("compute-02", "no route", hint="is it on?")}
    result = run_check(check, live)
    assert result.outcome == "failed"
    assert result.expected.startswith(expected) and observed in result.observed


def mpi_report(rank: int, **changes: object) -> str:
    report = {
        "rank": rank,
        "size": 4,
        "sum": 6,
        "bytes": 1_000_000,
        "host": f"compute-0{1 + rank // 2}",
        "library": "Open MPI v5.0.7",
    }
    return json.dumps({**report, **changes}) + "\n"


def test_mpi() -> None:
    result = run_named("mpi.two_nodes", lambda node, script: "".join(map(mpi_report, range(4))))
    assert result.observed == "rank count 4, sum 6, hosts compute-01 compute-02, Open MPI v5.0.7"


@pytest.mark.parametrize(
    "text",
    [
        "".join(mpi_report(0, size=1, sum=0, host=f"compute-0{n}") for n in (1, 1, 2, 2)),
        "".join(mpi_report(rank, host="compute-01") for rank in range(4)),
        "".join(mpi_report(rank, sum=5) for rank in range(4)),
        "".join(mpi_report(rank, bytes=1) for rank in range(4)),
        "".join(map(mpi_report, range(3))),
        "",
    ],
    ids=["worlds of one", "one host", "wrong sum", "lost bytes", "a rank is missing", "silence"],
)
def test_mpi_fails(text: str) -> None:
    assert run_named("mpi.two_nodes", lambda node, script: text).outcome == "failed"


def environment_report(rank: int, **changes: str) -> str:
    report = {
        "job": "7",
        "slurm_rank": str(rank),
        "slurm_size": "4",
        "pmix_rank": str(rank),
        "pmix_namespace": "slurm.pmix.7.0",
    }
    return json.dumps({**report, **changes}) + "\n"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "passed"),
        ({"pmix_rank": "", "pmix_namespace": ""}, "failed"),
        ({"pmix_namespace": ""}, "failed"),
        ({"job": ""}, "failed"),
        ({"slurm_size": "1"}, "failed"),
        ({"pmix_rank": "0"}, "failed"),
    ],
)
def test_mpi_environment(changes: dict[str, str], outcome: str) -> None:
    text = "".join(environment_report(rank, **changes) for rank in range(4))
    assert run_named("mpi.environment", lambda node, script: text).outcome == outcome


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", {}),
        ("(null)", {}),
        ("gpu:simulated:2(S:0)", {"gpu:simulated": 2}),
        ("gpu:a:1(S:0-1),gpu:b:3,gpu:a:1", {"gpu:a": 2, "gpu:b": 3}),
        ("gpu:2", {"gpu": 2}),
    ],
)
def test_gres_counts(text: str, counts: dict[str, int]) -> None:
    assert gres_counts(text) == counts


def test_reports_ignore_what_slurm_says_and_what_is_not_finished() -> None:
    assert reports('srun: job 7 queued\n{"a": 1}\nslurmstepd: x\n{"b": 2') == [{"a": 1}]


def test_nodes_of_one_partition_are_one_job() -> None:
    assert together(a_live(TWO), TWO.workers) == [
        ("--partition=all", "--nodes=2", "--nodelist=compute-01,compute-02")
    ]


def test_nodes_of_two_partitions_are_two_jobs() -> None:
    workers = (a_node("compute-01", 11), a_node("compute-02", 12))
    parts = (Partition("gpu", ("compute-01",)), Partition("cpu", ("compute-02",)))
    cluster = a_cluster(*workers, partitions=parts)
    assert [job[0] for job in together(a_live(cluster), workers)] == ["--partition=gpu", "--partition=cpu"]


def test_a_node_in_no_partition_is_a_failure() -> None:
    cluster = a_cluster(a_node("compute-01", 11), partitions=())
    with pytest.raises(CheckFailed, match="compute-01 in none"):
        together(a_live(cluster), cluster.workers)


def test_set_key() -> None:
    change = set_key("MpiDefault", "none")
    assert change("A=1\n mpidefault = pmix # x\nB=2\n") == "A=1\nMpiDefault=none\nB=2\n"
    assert change("A=1\n") == "A=1\nMpiDefault=none\n"
    assert append("# x")("A=1\n\n") == "A=1\n# x\n"


@pytest.mark.parametrize("file", sorted(Path("tests/suites").glob("**/_*.py")), ids=lambda file: file.name)
def test_programs_for_jobs_are_whole(file: Path) -> None:
    compile(file.read_text(), str(file), "exec")


def test_runs() -> None:
    image = "hpc-base-0f3a5c7e9b1d"
    there = NodeRuns(image=image, files={}, containers={})
    told = runs.running(there, runs.paths(TWO, TWO.workers[0]))

    def outcome(extra: str) -> str:
        nodes = nodes_json(*(a_slurm_node(name, extra=extra) for name in ("compute-01", "compute-02")))
        answer = run_named(
            "nodes.runs", lambda _, script: nodes if "scontrol ping" in script else f"image {image}\n"
        )
        return answer.outcome

    assert outcome(json.dumps({**told, "rack": 7})) == "passed"
    for extra in ("", json.dumps({**told, "image": "other"}), json.dumps({**told, "container.gone": "a"})):
        assert outcome(extra) == "failed"


def test_record() -> None:
    ended = (
        "JobId=7 UserId=hpc(2000) Name=x JobState=COMPLETED Partition=all DerivedExitCode=0:0 ExitCode=0:0"
    )

    def outcome(line: str) -> str:
        def answer(_: str, script: str) -> str:
            return "7\n" if "srun" in script else f"{line}\n"

        return run_named("nodes.record", answer).outcome

    assert outcome(ended) == "passed"
    for wrong in ("", ended.replace("COMPLETED", "FAILED"), ended.replace(" ExitCode=0:0", " ExitCode=1:0")):
        assert outcome(wrong) == "failed"


def test_rotation() -> None:
    taken = f"considering log {job_record(TWO)}"

    def outcome(said: str) -> str:
        def answer(_: str, script: str) -> str:
            return said if "logrotate" in script else ""

        return run_named("nodes.rotation", answer).outcome

    assert outcome(f"active\nreading config file\n{taken}\n") == "passed"
    for wrong in (
        f"inactive\n{taken}\n",
        "active\nsh: 1: logrotate: not found\n",
        f"active\n{taken}\nerror: skipping it because parent directory has insecure permissions\n",
        "active\nconsidering log /other\n",
    ):
        assert outcome(wrong) == "failed"


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        ("SMTP server at smtp:\n    TLS support\n", "passed", "smtp:25 answers slurm"),
        ("no program\nSMTP server at smtp:\n", "failed", "another MailProg"),
        (replace(failing(75, ""), stdout="msmtp: cannot connect: refused"), "failed", "refused"),
        (failing(124, ""), "failed", "nothing in 40 s"),
    ],
)
def test_the_relay_of_mails(answer: Result | str, outcome: str, words: str) -> None:
    (check,) = SUITES.select(name="nodes.mail")
    cluster = replace(TWO, mail=MailSettings("smtp", 25, "hpc@example.org"))
    done = run_check(check, FakeLive(lambda node, script: answer, cluster))
    assert (done.outcome, words in done.observed) == (outcome, True), done
    assert run_named("nodes.mail", lambda node, script: "").outcome == "skipped"
