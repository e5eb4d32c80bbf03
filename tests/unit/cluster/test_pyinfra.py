"""What is made of pyinfra's answers, with a stand-in for pyinfra on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cluster import pyinfra as deploy
from hpcstate.cluster.up import deploy_text
from hpcstate.errors import HpcstateError
from hpcstate.model import Description

RESULTS = {
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
    assert "files  (a)" in deploy_text(report)


def test_a_plan_never_applies(pyinfra: Path, description: Description) -> None:
    act(pyinfra, {**RESULTS, "results": None})
    report = deploy.plan(description, lambda _: None)
    assert Path(f"{pyinfra}.argv").read_text().split()[:2] == ["--json", "--dry"]
    assert [operation.changed for operation in report.operations] == [("a",), ()]
    assert report.failed_hosts == ()


@pytest.mark.parametrize("answer", ["", "Traceback", "[]"])
def test_a_pyinfra_that_cannot_run_is_a_message(pyinfra: Path, description: Description, answer: str) -> None:
    act(pyinfra, answer, "--> pyinfra error: no such host", code=1)
    with pytest.raises(HpcstateError, match="no such host") as caught:
        deploy.deploy(description, lambda _: None)
    assert "deploy.log" in caught.value.hint


def test_nothing_to_change_is_said(pyinfra: Path, description: Description) -> None:
    rows = [{"name": "files", "success": [], "no_change": ["a"], "error": []}]
    act(pyinfra, {"plan": [], "results": {"operations": rows, "failed_hosts": []}})
    assert (
        deploy_text(deploy.deploy(description, lambda _: None)) == "nothing to change: 1 operations compared"
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
