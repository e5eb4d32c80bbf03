"""``hpcstate check``: what it prints, and the proof it leaves."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest

from hpcstate import cli, paths
from hpcstate.check import jobs, target
from hpcstate.check.page import page
from hpcstate.check.proof import Proof, configuration_digest, summary, write_proof
from hpcstate.check.prove import result_text, versions_of
from hpcstate.check.suite import CheckResult, Suites
from hpcstate.model import Cluster
from hpcstate.node.ssh import UnreachableError
from hpcstate.run import Result
from tests.unit.fake_live import TWO, FakeLive, a_cluster, a_node

FILE = """\
metadata:
  name: test
clusters:
  hpc:
    name: test
    network:
      subnet: 192.168.150.0/24
    controller:
      cpu_cores: 2
      memory_gb: 2
      ip_address: 192.168.150.10
    compute_nodes:
      - cpu_cores: 2
        memory_gb: 2
        ip: 192.168.150.11
"""

FAILED = CheckResult("mpi.two", "One world", "failed", 1.5, observed="two", expected="one", hint="look")
SKIPPED = CheckResult("gpu.one", "One GPU", "skipped", 0, reason="needs a GPU")
PASSED = CheckResult("nodes.all", "All nodes", "passed", 2.25, observed="2 nodes")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    path = tmp_path / "cluster.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, UnreachableError]:
    """Nodes of the false cluster that do not answer; all others answer nothing but emptiness."""
    dead: dict[str, UnreachableError] = {}

    class Silent(FakeLive):
        def __init__(self, cluster: Cluster) -> None:
            super().__init__(lambda node, script: dead.get(node, ""), cluster)

        def __enter__(self) -> Self:
            return self

        def reach(self) -> dict[str, UnreachableError]:
            self._dead = dead
            return dead

    monkeypatch.setattr(target, "Live", Silent)
    return dead


def test_suites_and_checks_add_up(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--suite", "mpi", "--suite", "gpu-gres", "--check", "nodes.munge"]
    assert cli.main(["check", str(file), "--list", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["suite"] for each in found} == {"mpi", "gpu-gres", "nodes"}
    assert [each["name"] for each in found if each["suite"] == "nodes"] == ["nodes.munge"]
    assert cli.main(["check", str(file), "--list", "--suite", "mpi", "--suite", "nope"]) == 2


def test_list(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(file), "--list", "--suite", "mpi"]) == 0
    out = capsys.readouterr().out
    assert "mpi.two_nodes: " in out
    assert "    red when MpiDefault is none where srun runs" in out
    assert "gpu-gres." not in out


def test_list_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(file), "--list", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert all(check["faults"] for check in checks)
    assert {"name", "suite", "title", "needs", "faults"} == set(checks[0])


@pytest.mark.parametrize("options", [[], ["--list"], ["--list", "--json"]])
def test_a_file_that_is_not_there(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "nosuch.yaml", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nosuch.yaml" in printed.err and "no such file" in printed.err and "Traceback" not in printed.err


def test_an_unknown_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(file), "--check", "mpi.none"]) == 2
    assert "there is no check 'mpi.none'" in capsys.readouterr().err


def test_a_cluster_that_was_never_started(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(file)]) == 2
    assert "there is no key for the nodes of cluster 'test'" in capsys.readouterr().err


def test_a_file_without_slurm(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        FILE.replace("  hpc:", "  cloud:")
        .replace("controller:", "control_plane:")
        .replace("compute_nodes", "worker_nodes")
    )
    assert cli.main(["check", str(file)]) == 2
    assert "no Slurm cluster" in capsys.readouterr().err


def test_a_dead_controller(
    file: Path, opened: dict[str, UnreachableError], capsys: pytest.CaptureFixture[str]
) -> None:
    opened["controller"] = UnreachableError("controller", "192.168.150.10 does not answer", hint="status")
    assert cli.main(["check", str(file)]) == 2
    assert "controller: 192.168.150.10 does not answer" in capsys.readouterr().err
    assert not (paths.BUILD / "test" / "proof.json").exists()


def test_a_whole_run_is_kept(
    file: Path,
    opened: dict[str, UnreachableError],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "START_SECONDS", 0)
    monkeypatch.setattr("tests.suites.login.run", lambda *_, **__: Result(("ssh",), 255, "", "no network"))
    opened["compute-01"] = UnreachableError("compute-01", "192.168.150.11 does not answer", hint="status")
    assert cli.main(["check", str(file), "--json"]) == 1
    printed, progress = capsys.readouterr()
    proof = json.loads((paths.BUILD / "test" / "proof.json").read_text())
    assert proof == json.loads(printed)
    assert proof["complete"] is True
    assert proof["failed"] > 0
    assert proof["skipped"] > 0, "no GPU in the file"
    assert len(proof["configuration"]) == 64
    assert "  compute-01: 192.168.150.11 does not answer" in progress
    page = (paths.BUILD / "test" / "proof.html").read_text()
    assert (
        f"{proof['failed'] + proof['errors']} of {proof['failed'] + proof['errors'] + proof['passed']}"
        in page
    )
    assert "turns red when slurmd is stopped on a node" in page


def test_a_part_is_not_kept(file: Path, opened: dict[str, UnreachableError]) -> None:
    assert cli.main(["check", str(file), "--suite", "nodes"]) == 1
    assert not (paths.BUILD / "test" / "proof.json").exists()
    assert not (paths.BUILD / "test" / "proof.html").exists()


def test_results_go_to_files_that_are_named(
    file: Path, opened: dict[str, UnreachableError], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {option: tmp_path / f"out.{option[2:6]}" for option in ("--json", "--html", "--junitxml")}
    words = [word for option, path in written.items() for word in (option, str(path))]
    assert cli.main(["check", str(file), "--suite", "nodes", "-k", "munge or srun", *words]) == 1
    assert "nodes.munge" in capsys.readouterr().out, "progress goes to standard output"
    found = json.loads(written["--json"].read_text())
    assert [check["name"] for check in found["checks"]] == ["nodes.srun", "nodes.munge"]
    assert found["complete"] is False
    assert "This was a run of a part of the checks." in written["--html"].read_text()
    assert 'tests="2"' in written["--junitxml"].read_text()


def test_the_next_run_may_be_of_those_that_failed(
    file: Path, opened: dict[str, UnreachableError], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["check", str(file), "--suite", "nodes", "-k", "munge"])
    capsys.readouterr()
    assert cli.main(["check", str(file), "--lf"]) == 1
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines() if " s  " in line] == [
        "nodes.munge:"
    ]


@pytest.mark.parametrize("option", ["--json", "--html", "--junitxml"])
def test_the_cluster_file_is_not_written_over(
    file: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(file), option, str(file)]) == 2
    assert f"{option} would write over the cluster file" in capsys.readouterr().err
    assert file.read_text() == FILE
    assert cli.main(["check", str(file), option, "/none/there"]) == 2
    assert "name a file in a folder that is there" in capsys.readouterr().err


def test_checks_of_ones_own(
    file: Path, opened: dict[str, UnreachableError], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "our_site"
    own.mkdir()
    (own / "test_scratch.py").write_text(
        "def test_named(cluster, record_property):\n"
        '    """The cluster has a name"""\n'
        "    record_property('observed', cluster.name)\n"
        "    assert cluster.name\n"
    )
    assert cli.main(["check", str(file), "--checks", str(own), "--list", "--suite", "our-site"]) == 0
    assert "never seen red: no fault is written for it" in capsys.readouterr().out
    assert cli.main(["check", str(file), "--checks", str(own), "--suite", "our-site"]) == 0
    assert "our-site.named: The cluster has a name" in capsys.readouterr().out


def test_the_page_says_what_was_seen_and_escapes_it() -> None:
    results = (
        CheckResult("mpi.one", "Ranks", "passed", 1.5, observed="<b>4</b> ranks"),
        CheckResult("mpi.two", "More ranks", "skipped", 0, reason="needs 9 compute nodes"),
        CheckResult("nodes.one", "Nodes", "error", 61, reason="broken", hint="look"),
    )
    when = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    proof = Proof("test", "c.yaml", when, "0" * 64, False, 75, results, {"Slurm": "24.11.5"})
    text = page(proof, TWO, Suites((), ()))
    assert "&lt;b&gt;4&lt;/b&gt; ranks" in text
    assert "1 of 2 checks did not pass" in text
    assert "1 min 15 s" in text
    assert re.search(r"<dt>1 check</dt><dd>needs 9 compute nodes</dd>", text)
    assert "<dt>Slurm</dt><dd>24.11.5</dd>" in text
    assert "compute-02" in text
    assert not re.search(r"(?:src|href)=", text), "it needs no other file"


def test_versions_of_the_controller() -> None:
    said = "Slurm\t24.11.5\nkernel\t6.12\nnoise\n"
    found = versions_of(FakeLive(lambda node, script: said))
    assert found["Slurm"] == "24.11.5"
    assert list(found) == ["hpcstate", "Slurm", "kernel"]


def test_result_text() -> None:
    assert result_text(PASSED).splitlines() == [
        "  ok        2.2 s  nodes.all: All nodes",
        "                   2 nodes",
    ]
    assert [line.strip() for line in result_text(FAILED).splitlines()[1:]] == [
        "expected: one",
        "observed: two",
        "next: look",
    ]
    assert "why: needs a GPU" in result_text(SKIPPED)


def test_a_skipped_check_is_not_counted_as_passed() -> None:
    assert summary([PASSED, SKIPPED], 3) == "1 passed, 1 skipped in 3.0 s"
    assert summary([SKIPPED], 3) == "0 passed, 1 skipped in 3.0 s"
    assert summary([PASSED, FAILED], 3) == "1 passed, 1 failed in 3.0 s"


def test_the_proof_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "build" / "proof.json"
    when = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    for results in ((FAILED,), (PASSED,)):
        write_proof(Proof("test", "f.yaml", when, "0" * 64, True, 4.0, results), path)
    assert json.loads(path.read_text())["checks"][0]["name"] == "nodes.all"
    assert json.loads(path.read_text())["when"] == "2026-11-21T12:00:00+00:00"
    assert [entry.name for entry in path.parent.iterdir()] == ["proof.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_another_configuration_has_another_digest() -> None:
    same = a_cluster(a_node("compute-01", 11), a_node("compute-02", 12))
    other = a_cluster(a_node("compute-01", 11), a_node("compute-02", 12, gpus=1))
    assert configuration_digest(TWO) == configuration_digest(same) != configuration_digest(other)
