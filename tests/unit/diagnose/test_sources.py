"""What comes in: sacct's real answers, patterns of paths, files that are large, odd or somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate.diagnose import collect, deployed, lines, look, output_paths, record, sources
from hpcstate.diagnose.record import Ended, JobRecord
from hpcstate.diagnose.rules import TABLE
from hpcstate.errors import HpcstateError
from hpcstate.paths import ROOT
from tests.unit.test_layers import imported

SACCT = Path(__file__).with_name("sacct")
"""Answers of sacct 24.11.5 (data_parser v0.0.42) with a real slurmctld, slurmdbd and slurmd in a Debian 13
root."""


def real(name: str) -> list[JobRecord]:
    return record.parse((SACCT / f"{name}.json").read_text())


REAL = {
    "ok": ("1", "COMPLETED", Ended(), "none"),
    "signal": ("3", "FAILED", Ended(0, 11), "crash"),
    "requeued": ("5", "NODE_FAIL", Ended(1), "node-failure"),
    "array": ("6", "FAILED", Ended(1), "exit-code"),
    "output": ("7", "FAILED", Ended(0, 53), "missing-file"),
    "step": ("9", "FAILED", Ended(2), "exit-code"),
    "cancelled": ("11", "CANCELLED", Ended(), "cancelled"),
    "node_failed": ("14", "NODE_FAIL", Ended(1), "node-failure"),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_record(name: str) -> None:
    job, state, ended, cause = REAL[name]
    found = record.find(real(name), job)
    assert found is not None
    assert (found.state, found.ended, found.user) == (state, ended, "alice")
    assert sources.judge(sources.gathered({}, found.job), found).cause.name == cause


def test_a_requeued_job_is_judged_by_its_last_run() -> None:
    found = record.find(real("requeued"), "5")
    assert found is not None and found.waits == "PENDING"
    assert (found.failed_node, [step.name for step in found.steps]) == ("n1", ["batch", "0"])
    text = "[2026-11-28T07:04:30.028] error: [job 10] prolog failed status=1:0"
    held = record.find(real("prolog"), "10")
    assert held is not None and held.state == "REQUEUED" and held.over
    answer = {"n1": {"slurm": [(71, text)]}}
    said = sources.judge(sources.gathered(answer, 10), held)
    assert (said.cause.name, said.node) == ("launch", "n1")
    assert "requeued" in said.notes[0]


def test_an_array_and_its_tasks() -> None:
    tasks = real("array")
    assert [task.label for task in tasks] == ["6_1", "6_2"] or [task.label for task in tasks] == [
        "6_2",
        "6_1",
    ]
    second = record.find(tasks, "6_2")
    assert second is not None and second.ended == Ended(2)
    assert record.find(tasks, "99") is None


def test_older_forms_of_a_record() -> None:
    row = {
        "job_id": 4,
        "state": {"current": "FAILED", "reason": "None"},
        "exit_code": {"status": "ERROR", "return_code": 2},
        "time": {"start": 5, "end": 9, "submission": 1, "limit": {"set": True, "number": 3}},
        "array": {"job_id": 0, "task_id": None},
        "steps": [{"step": {"id": {"job_id": 4, "step_id": "batch"}}, "state": "FAILED"}],
    }
    (found,) = record.parse(json.dumps({"jobs": [row]}))
    assert (found.state, found.ended, found.limit_s, found.array_task) == ("FAILED", Ended(2), 180, None)
    assert found.steps[0].name == "batch"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"jobs": 3}'])
def test_no_answer_of_sacct(text: str) -> None:
    with pytest.raises(ValueError):
        record.parse(text)


JOB = JobRecord(12, "my|job", "alice", folder="/home/alice")
TASK = replace(JOB, array_job=10, array_task=3)


@pytest.mark.parametrize(
    ("path", "job", "expanded"),
    [
        ("slurm-%j.out", JOB, "slurm-12.out"),
        ("out-%x-%A_%a.log", TASK, "out-my|job-10_3.log"),
        ("out-%A_%a-%N.log", JOB, "out-12_4294967294-*.log"),
        ("r/%5j-%t.txt", JOB, "r/00012-*.txt"),
        ("[a]*%%.txt", JOB, "[[]a][*]%.txt"),
        ("a\\%j", JOB, "a%j"),
        ("%q", JOB, "%q"),
    ],
)
def test_a_pattern_of_a_path(path: str, job: JobRecord, expanded: str) -> None:
    assert output_paths.expanded(path, job) == expanded


def test_where_the_output_is_where_nothing_is_said() -> None:
    assert output_paths.candidates(JOB) == ["slurm-12.out"]
    assert output_paths.candidates(TASK) == ["slurm-10_3.out"]
    assert output_paths.candidates(replace(JOB, outputs=("/dev/null", "/x"))) == ["/x"]


def test_a_large_file_is_kept_in_part(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as file:
        for number in range(1, 50001):
            file.write("RuntimeError: this one\n" if number == 20000 else f"step {number}\n")
        file.write("x" * 5_000_000 + "\n")
    kept = collect.read(str(path))
    rows = dict(kept["rows"])
    assert kept["lines"] == 50001 and not kept["whole"]
    assert rows[1] == "step 1" and rows[20000] == "RuntimeError: this one" and rows[19995] == "step 19995"
    assert len(rows) < 1000 and len(rows[50001]) <= 2 * collect.LONGEST


def test_what_was_left_out_of_a_huge_file_has_no_wrong_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MOST", 64_000)
    path = tmp_path / "out"
    path.write_text("".join(f"step {number}\n" for number in range(20000)) + "ValueError: last\n")
    kept = collect.read(str(path))
    assert kept["rows"][-1][1] == "ValueError: last"
    assert not kept["whole"]


def test_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "none"):
        with pytest.raises(OSError):
            collect.read(str(tmp_path / name))


def asked(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "job": 12,
        "paths": ["out-*.log"],
        "folder": str(folder),
        "user": "",
        "since": 0,
        "until": 0,
        **more,
    }


def test_the_collector_is_a_program_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "out-1.log").write_text("Traceback (most recent call last):\nKeyError: 'x'\n")
    done = subprocess.run(
        ["sh", "-c", look.script(asked(tmp_path))], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout)
    assert found["files"][0]["rows"][1] == [2, "KeyError: 'x'"]
    collected = sources.gathered({"n1": found}, 12)
    assert sources.judge(collected, None).cause.name == "program"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_an_output_is_read_as_its_user(tmp_path: Path) -> None:
    """A path that a user made a link to what is not theirs tells nothing."""
    secret = tmp_path / "secret"
    secret.write_text("error: secret\n")
    secret.chmod(0o600)
    folder = tmp_path / "home"
    folder.mkdir()
    for each in (tmp_path, folder, *tmp_path.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    (folder / "out-1.log").symlink_to(secret)
    found = collect.collect(asked(folder, user="nobody"))
    assert found["files"] == []
    assert any("Permission denied" in text for text in found["missing"])
    assert os.geteuid() == 0


def test_logs_of_slurmd_are_of_this_job_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "slurmd.log"
    log.write_text("[12.0] error: mine\n[112.0] error: no\nJobId=12 mine\nStepId=123.0 no\n[job 12] mine\n")
    monkeypatch.setattr(collect, "SLURMD_LOG", str(log))
    rows = collect._slurm(12, [])
    assert [number for number, _ in rows] == [1, 3, 5]


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        ("\x1b[1;31merror\x1b[0m", ["error"]),
        ("10%\r20%\r30%", ["30%"]),
        ("a\x00b\x07", ["ab"]),
        ("\x1b]0;title\x07ok", ["ok"]),
        ("x\rfatal: gone\rdone", ["fatal: gone", "done"]),
        ("", [""]),
    ],
)
def test_a_line_as_a_terminal_shows_it(raw: str, texts: list[str]) -> None:
    assert lines.clean(raw) == texts


@pytest.mark.parametrize(
    ("text", "rank", "rest"),
    [
        ("[1,3]<stderr>: boom", 3, "boom"),
        ("[rank7]: boom", 7, "boom"),
        ("[default2]:[rank2]: boom", 2, "boom"),
        ("12: this is no label", None, "12: this is no label"),
    ],
)
def test_whose_a_line_is(text: str, rank: int | None, rest: str) -> None:
    (line,) = lines.of_text(text)
    assert (line.rank, line.text) == (rank, rest)


def test_labels_of_srun() -> None:
    found = lines.of_text("0: a\n1: b\n1: c\n0: d")
    assert [(line.rank, line.text) for line in found] == [(0, "a"), (1, "b"), (1, "c"), (0, "d")]


# what nodes get


def test_what_nodes_get_needs_nothing_else() -> None:
    """Standard library only, and each module that another imports is there."""
    parts = {part.removesuffix(".py").replace("/", ".") for part in deployed.PARTS if part.endswith(".py")}
    for part in ("diagnose/diagnose_training_failure.py", *deployed.PARTS):
        if not part.endswith(".py"):
            continue
        text = (ROOT / "hpcstate" / part).read_text()
        assert imported(text) <= {*sys.stdlib_module_names, "hpcstate"}, part
        for line in text.splitlines():
            if line.startswith("from hpcstate.") and not line.startswith("from hpcstate.diagnose import"):
                module = line.split()[1].removeprefix("hpcstate.")
                assert module in parts, (part, line)
    assert "hpcstate" not in imported((ROOT / "hpcstate/diagnose/collect.py").read_text())
    assert TABLE.name == "rules.toml"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The program as it lies on a node, below ``tmp_path``, with a sacct that tells of job 7."""
    for path, text in deployed.files().items():
        file = tmp_path / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(int(deployed.MODES.get(path, "644"), 8))
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text(f"#!/bin/sh\ncase $* in *--json*) cat {SACCT}/output.json;; *) echo 7;; esac\n")
    sacct.chmod(0o755)
    return tmp_path


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = root / deployed.PROGRAM.removeprefix("/")
    environment = {"PATH": f"{root / 'bin'}:/usr/bin:/bin", "PYTHONPATH": "/nowhere"}
    return subprocess.run(
        [sys.executable, "-I", str(program), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("words", [("7",), ()], ids=["by number", "the last that failed"])
def test_the_program_of_the_nodes(installed: Path, words: tuple[str, ...]) -> None:
    done = run(installed, *words)
    assert done.returncode == 1, done.stderr
    assert "[missing-file]" in done.stdout and "/no/such/folder/x.out" in done.stdout
    told = json.loads(run(installed, "--json", *words).stdout)
    assert told["cause"] == "missing-file"
    assert not list(installed.rglob("__pycache__"))


def test_the_program_reads_a_log_alone(installed: Path) -> None:
    log = installed / "log"
    log.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0\n")
    assert "[memory]" in run(installed, "--no-slurm", "--log", str(log)).stdout


@pytest.mark.parametrize("words", [("seven",), ("--no-slurm",), ("8",), ("--no-slurm", "--log", "/none")])
def test_what_the_program_cannot_look_at(installed: Path, words: tuple[str, ...]) -> None:
    done = run(installed, *words)
    assert done.returncode == 2
    assert done.stderr and "Traceback" not in done.stderr


# a cluster


class Nodes:
    """Stands in for Live: what the controller's sacct prints, and what each node's collector does."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def run(self, node: str, script: str, **_: object) -> Any:
        from hpcstate.node.ssh import UnreachableError
        from hpcstate.run import Result

        key = "sacct" if script.startswith("sacct") else node
        if key not in self.answers:
            raise UnreachableError(node, "no route to host", hint="")
        return Result((), 0, self.answers[key], "")


def test_a_node_that_is_away_is_told_as_not_read() -> None:
    from hpcstate import schema

    cluster = schema.load(ROOT / "inventories" / "gpu.yaml").cluster("hpc")
    assert cluster is not None
    name = cluster.workers[0].name
    text = (SACCT / "node_failed.json").read_text().replace('"n1"', json.dumps(name))
    controller = json.dumps({"node": "c", "files": [], "missing": ["x"], "slurm": [], "kernel": []})
    nodes: Any = Nodes({"sacct": text, cluster.controller.name: controller})
    _, _, found = look.look(nodes, cluster, "14", lambda said: None)
    assert (found.cause.name, found.node) == ("node-failure", name)
    assert any(name in said and "no route" in said for said in found.missing)
    with pytest.raises(HpcstateError, match="not recorded"):
        look.look(nodes, cluster, "99", lambda said: None)


def test_the_page_of_a_job() -> None:
    from hpcstate.diagnose.page import page

    found = record.find(real("requeued"), "5")
    assert found is not None
    rows = [(1, "hello"), (2, "<script>alert(1)</script> srun: error: n1: task 2: Segmentation fault")]
    file = {"path": "/home/alice/out", "bytes": 9, "lines": 2, "whole": True, "rows": rows}
    collected = sources.gathered({"n1": {"files": [file]}}, 5)
    text = page(found, collected, sources.judge(collected, found))
    assert "<script>" not in text and "&lt;script&gt;" in text
    for word in ("Timeline", "step 0", "NODE_FAIL", "Asked, had and used", "n1", "/home/alice/out", "my|job"):
        assert word in text
    assert "http://" not in text and "https://" not in text and "src=" not in text
