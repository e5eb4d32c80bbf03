"""What is made of pyinfra's answers, with a stand-in for pyinfra on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths, schema
from hpcstate.cluster import pyinfra as deploy
from hpcstate.cluster.up import deploy_text
from hpcstate.errors import HpcstateError
from hpcstate.model import Description
from hpcstate.node.file_change import FileChange
from hpcstate.registry.delivery import WITHOUT
from hpcstate.slurm.change import WAITING

RESULTS: dict[str, Any] = {
    "plan": [
        {"name": "files", "hosts_with_change": ["a"], "hosts_with_conditional_change": ["b"]},
        {"name": "services", "hosts_with_change": [], "hosts_with_conditional_change": []},
    ],
    "results": {
        "operations": [
            {"name": "files", "success": ["a"], "no_change": ["b"], "error": []},
            {"name": "services", "success": [], "no_change": ["a"], "error": ["b"]},
        ],
        "failed_hosts": ["b"],
    },
}

CHANGE = FileChange("a", "/etc/timer", True, "@@ -1 +1 @@\n-1\n+2")


@pytest.fixture
def description() -> Description:
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml")


@pytest.fixture
def pyinfra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called pyinfra beside the interpreter; the test says what it does."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    program = tmp_path / "pyinfra"
    program.touch(mode=0o755)
    return program


def act(program: Path, answer: object, log: str = "", code: int = 0) -> None:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{program}.argv\n'
        f"cat >&2 <<'E'\n{log}\nE\ncat <<'E'\n{text}\nE\nexit {code}\n"
    )


def test_a_deploy_tells_what_changed_where(pyinfra: Path, description: Description) -> None:
    log = "--> Starting operation: services\n[b] Error: unit does not start"
    act(pyinfra, RESULTS, log, code=1)
    report = deploy.deploy(description, lambda _: None)
    assert [operation.name for operation in report.changed] == ["files"]
    assert report.failed_hosts == ("b",)
    assert report.messages == ("[b] Error: unit does not start",)
    words = Path(f"{pyinfra}.argv").read_text().split()
    assert words[:2] == ["--json", "-y"]
    assert words[3] == "deploys/full_stack.py"
    assert "--data" not in words
    assert "files  (a)" in deploy_text(report)


def test_a_plan_never_applies(pyinfra: Path, description: Description) -> None:
    act(pyinfra, {**RESULTS, "results": None})
    report = deploy.plan(description, lambda _: None)
    assert Path(f"{pyinfra}.argv").read_text().split()[:3] == ["--json", "--dry", "--diff"]
    assert [operation.changed for operation in report.operations] == [("a",), ()]
    assert report.failed_hosts == ()


def test_a_plan_longer_than_a_pipe_holds_is_read(pyinfra: Path, description: Description) -> None:
    row = {"name": "Slurm/daemon", "hosts_with_change": ["n"] * 40_000, "hosts_with_conditional_change": []}
    act(pyinfra, {"plan": [row]}, log="--> Gathering facts")

    assert len(deploy.plan(description, print).operations[0].changed) == 40_000


def test_a_plan_says_that_it_goes_on(
    pyinfra: Path, description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "_PROGRESS", 0.05)
    act(pyinfra, {"plan": []})
    pyinfra.write_text(pyinfra.read_text().replace("cat <<", "sleep 0.5\ncat <<", 1))
    said: list[str] = []
    deploy.plan(description, said.append)
    assert said and all(line.startswith("comparing the nodes with what they should have (") for line in said)


def test_a_plan_of_some_nodes_asks_those_only(pyinfra: Path, description: Description) -> None:
    act(pyinfra, {**RESULTS, "results": None})
    deploy.plan(description, lambda _: None, only=["a", "b"], without=["x", "y"])
    words = Path(f"{pyinfra}.argv").read_text().split()
    assert words[:7] == ["--json", "--dry", "--diff", "--limit", "a", "--limit", "b"]


def test_a_plan_has_the_files_that_operations_would_write(pyinfra: Path, description: Description) -> None:
    rows = [{**row, "files": [asdict(CHANGE)]} for row in RESULTS["plan"][:1]]
    act(pyinfra, {"plan": [*rows, *RESULTS["plan"][1:]], "results": None})
    assert deploy.plan(description, lambda _: None).files == (CHANGE,)


@pytest.mark.parametrize(("without", "said"), [((), ""), (("x", "y"), "x,y")])
def test_containers_that_are_not_built_are_named_to_the_dry_run_only(
    pyinfra: Path,
    description: Description,
    monkeypatch: pytest.MonkeyPatch,
    without: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setenv(WITHOUT, "left-by-somebody")
    pyinfra.write_text(
        f'#!/bin/sh\nprintf %s "${WITHOUT}" >{pyinfra}.without\necho {json.dumps(json.dumps(RESULTS))}\n'
    )
    deploy.plan(description, lambda _: None, without=without)
    assert Path(f"{pyinfra}.without").read_text() == said
    deploy.deploy(description, lambda _: None)
    assert Path(f"{pyinfra}.without").read_text() == "", "a deploy leaves none out"


@pytest.mark.parametrize(
    ("choice", "data"),
    [
        (deploy.DeployChoice(drain_seconds=60), ["slurm_drain_seconds=60"]),
        (deploy.DeployChoice(force=True, reboot=True), ["slurm_force=true", "nvidia_reboot=true"]),
    ],
)
def test_what_a_person_chose_reaches_the_deploys(
    pyinfra: Path, description: Description, choice: deploy.DeployChoice, data: list[str]
) -> None:
    act(pyinfra, RESULTS)
    deploy.deploy(description, lambda _: None, choice=choice)
    words = Path(f"{pyinfra}.argv").read_text().split()
    assert [word for before, word in pairwise(words) if before == "--data"] == data


def test_a_deploy_that_waits_for_jobs_says_so_at_once(pyinfra: Path, description: Description) -> None:
    waiting = f"[a] {WAITING} 12, 13 on a, 0 s of 3600 s"
    act(pyinfra, RESULTS, f"--> Starting operation: files\n    {waiting}\n[a] Success")
    said: list[str] = []
    deploy.deploy(description, said.append)
    assert said == [waiting]


@pytest.mark.parametrize("code", [0, 130])
def test_a_pyinfra_that_was_interrupted_is_an_interruption(
    pyinfra: Path, description: Description, code: int
) -> None:
    act(pyinfra, "", "[a] went on", code=code)
    with pytest.raises(KeyboardInterrupt):
        deploy.deploy(description, lambda _: None)


def test_an_interrupted_deploy_does_not_go_on(
    pyinfra: Path, description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill reaches only this process: pyinfra has to be told, and is awaited."""
    pyinfra.write_text(
        "#!/bin/sh\ntrap 'echo told >>$0.told; exit 0' INT TERM\n"
        "echo '--> Starting operation: files' >&2\nwhile :; do sleep 0.1; done\n"
    )

    class Killed(BaseException):
        """As SIGTERM comes."""

    def killed(stream: Iterable[str], *_: object) -> list[str]:
        next(iter(stream))
        raise Killed

    monkeypatch.setattr(deploy, "_follow", killed)
    with pytest.raises(Killed):
        deploy.deploy(description, lambda _: None)
    assert Path(f"{pyinfra}.told").read_text() == "told\n"


def test_a_deploy_of_the_background_is_interrupted_too(
    pyinfra: Path, description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script's `&` and nohup ignore SIGINT for all their children."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        test_an_interrupted_deploy_does_not_go_on(pyinfra, description, monkeypatch)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_cause_of_a_failure_comes_first(pyinfra: Path, description: Description) -> None:
    chatter = "\n".join(f"[b] line {number}" for number in range(30))
    act(pyinfra, RESULTS, f"[b] fine\n[b] Error: no space left\n{chatter}", code=1)
    messages = deploy.deploy(description, lambda _: None).messages
    assert messages[0] == "[b] Error: no space left"
    assert messages[-1] == "[b] line 29"
    assert len(messages) == 12


@pytest.mark.parametrize("answer", ["", "Traceback", "[]"])
def test_a_pyinfra_that_cannot_run_is_a_message(pyinfra: Path, description: Description, answer: str) -> None:
    act(pyinfra, answer, "--> pyinfra error: no such host", code=1)
    with pytest.raises(HpcstateError, match="no such host") as caught:
        deploy.deploy(description, lambda _: None)
    assert caught.value.message.startswith("--> pyinfra error: no such host\n"), "the cause first"
    assert "deploy.log" in caught.value.hint


def test_where_every_host_stopped_the_first_one_says_why(pyinfra: Path, description: Description) -> None:
    log = (
        "[b] waiting for jobs 6 on b, 0 s of 5 s\n[b] stops here: jobs 6 still hold b after 5 s.\n"
        "[b] Error: executed 1 commands\n--> pyinfra error: No hosts remaining!"
    )
    act(pyinfra, "", log, code=1)
    said: list[str] = []
    with pytest.raises(HpcstateError) as caught:
        deploy.deploy(description, said.append)
    assert caught.value.message.splitlines()[0] == "[b] stops here: jobs 6 still hold b after 5 s."
    assert said == [
        "[b] waiting for jobs 6 on b, 0 s of 5 s",
        "[b] stops here: jobs 6 still hold b after 5 s.",
    ]


def test_nothing_to_change_is_said(pyinfra: Path, description: Description) -> None:
    rows = [{"name": "files", "success": [], "no_change": ["a"], "error": []}]
    act(pyinfra, {"plan": [], "results": {"operations": rows, "failed_hosts": []}})
    assert (
        deploy_text(deploy.deploy(description, lambda _: None)) == "nothing to change: 1 operation compared"
    )


def test_what_is_left_as_it_is_is_told_once_at_the_end(pyinfra: Path, description: Description) -> None:
    rows = [{"name": "files", "success": [], "no_change": ["a"], "error": []}]
    line = "    [a] left as it is: slurmd.service also runs by x.conf"
    act(pyinfra, {"plan": [], "results": {"operations": rows, "failed_hosts": []}}, f"{line}\n{line}")
    report = deploy.deploy(description, lambda _: None)
    assert report.named == ("[a] slurmd.service also runs by x.conf",)
    assert deploy_text(report).splitlines()[1:] == [
        "left as it is, because somebody may want it so (docs/drift.md):",
        "      [a] slurmd.service also runs by x.conf",
    ]


def test_a_file_without_inventory_gets_the_general_one(tmp_path: Path) -> None:
    assert deploy.inventory_file(tmp_path / "mine.yaml").endswith("inventories/chosen.py")
    assert deploy.inventory_file(paths.ROOT / "inventories/gpu.yaml").endswith("inventories/gpu.py")


FOLLOWER = """
import sys
from pathlib import Path
from hpcstate import schema
from hpcstate.cluster import pyinfra
sys.executable = sys.argv[1]
pyinfra.deploy(schema.load(Path(sys.argv[2])), print)
"""


def test_a_deploy_ends_with_who_follows_it(pyinfra: Path, description: Description) -> None:
    """Killed -9: nobody can tell pyinfra any more."""
    pid = Path(f"{pyinfra}.pid")
    pyinfra.write_text(f"#!/bin/sh\necho $$ >{pid}.new && mv {pid}.new {pid}\nexec sleep 300\n")
    python = str(Path(sys.prefix, "bin", "python"))
    words = [python, "-c", FOLLOWER, sys.executable, str(description.path)]
    environment = {**os.environ, "HPCSTATE_BUILD": str(paths.BUILD)}
    with subprocess.Popen(words, cwd=paths.ROOT, env=environment, stdout=subprocess.DEVNULL) as follower:
        limit = time.monotonic() + 120
        while not pid.exists() and time.monotonic() < limit:
            time.sleep(0.05)
        deploy_pid = Path("/proc") / pid.read_text().strip() / "cmdline"
        while b"sleep" not in deploy_pid.read_bytes() and time.monotonic() < limit:
            time.sleep(0.05)  # the shell has written its number and is not sleep yet
        follower.kill()
        follower.wait()
        while deploy_pid.exists() and deploy_pid.read_bytes() and time.monotonic() < limit:
            time.sleep(0.05)
        assert time.monotonic() < limit
