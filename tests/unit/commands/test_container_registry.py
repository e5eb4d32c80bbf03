"""The commands of the registry: what they refuse, say and return."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.categories import CATEGORIES, DEFAULT_CATEGORY
from hpcstate.cli import main
from hpcstate.cluster import runs as cluster_runs
from hpcstate.node import ssh as live
from hpcstate.registry import deploy as container_deploy
from hpcstate.registry import prune as container_prune
from hpcstate.terminal import Board
from tests.unit.registry_nodes import LocalNodes, nodes, sif_file

__all__ = ["nodes"]

FILE = str(paths.ROOT / "inventories" / "gpu.yaml")


@pytest.fixture
def lab(nodes: type[LocalNodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[LocalNodes]:
    """inventories/gpu.yaml on nodes that are folders here."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(container_deploy, "demand_whole", lambda *_: None)
    monkeypatch.setattr(container_prune, "uses", lambda _: {})
    monkeypatch.setattr(live, "Live", nodes)
    for module in (container_deploy.deploy, container_prune.prune, cluster_runs.note):
        assert module.__kwdefaults__ is not None
        monkeypatch.setitem(module.__kwdefaults__, "open_live", nodes)
    return nodes


def test_a_container_s_life(
    lab: type[LocalNodes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in (100, 200):
        file = sif_file(tmp_path / "tool.sif", b"x" * size)
        assert main(["container", "deploy", FILE, str(file), "--version", f"1.{size}"]) == 0
    said = capsys.readouterr().out
    assert "compute-02: tool: in place" in said
    assert "gpu: 3 of 3 nodes in step" in said
    assert main(["container", "catalog", FILE]) == 0
    said = capsys.readouterr().out
    assert "2 versions of 1 container\n" in said
    assert "all 3 nodes are in step" in said
    assert main(["container", "prune", FILE, "--keep", "0", "--dry-run"]) == 0
    assert (
        "1.100" in (said := capsys.readouterr().out)
        and "would be removed" in said
        and "kept, current" in said
    )
    assert main(["container", "prune", FILE, "--keep", "0", "--json"]) == 0
    (pruned,) = json.loads(capsys.readouterr().out)
    assert [version["version"] for version in pruned["removed"]] == ["1.100"]
    assert pruned["freed"] == pruned["removed"][0]["size"]
    assert main(["container", "catalog", FILE, "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert [(version["version"], version["current"]) for version in shown["containers"]] == [("1.200", True)]
    assert shown["nodes"] == {"controller": [], "compute-01": [], "compute-02": []}


def test_a_dead_node_is_an_exit_code_of_1_and_the_next_step(
    lab: type[LocalNodes], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "dead", ("compute-02",))
    file = str(sif_file(tmp_path / "tool.sif"))
    assert main(["container", "deploy", FILE, file]) == 1
    said = capsys.readouterr().out
    assert "compute-02: FAILED: it does not answer on SSH" in said
    assert "--resume" in said
    assert main(["container", "deploy", FILE, file, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["complete"], [node["outcome"] for node in result["nodes"]]) == (
        False,
        ["unchanged", "unchanged", "failed"],
    )
    assert main(["container", "catalog", FILE]) == 1
    assert "compute-02: it does not answer" in capsys.readouterr().out
    monkeypatch.setattr(lab, "dead", ())
    assert main(["container", "deploy", FILE, "--resume"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which container?"),
        (["a.sif", "b.sif", "--version", "1"], "go with one file"),
        (["mpi-minimal"], "has not been built"),
        (["nothing"], "no container is called"),
        (["gone.sif"], "No such file"),
        (["--resume", "--via", "oras"], "--oras-url"),
        (["--resume", "--via", "sbcast", "--bandwidth", "9"], "cannot be limited"),
        (["--resume", "--cluster", "cloud"], "no cluster"),
    ],
)
def test_what_is_refused(
    lab: type[LocalNodes], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["container", "deploy", FILE, *words]) == 2
    assert message in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_a_node_on_a_terminal_and_calm_elsewhere() -> None:
    shown, plain = Terminal(), io.StringIO()
    for stream in (shown, plain):
        board = Board(stream)
        board.line("lab:")
        for node, text in (("a", "1 %"), ("b", "1 %"), ("a", "2 %"), ("a", "2 %"), ("a", "in place")):
            board.say(node, text)
    assert plain.getvalue() == "lab:\n  a: 1 %\n  b: 1 %\n  a: in place\n"
    *_, last = shown.getvalue().split("\x1b[2A")
    assert last == "\x1b[2K  a  in place\n\x1b[2K  b  1 %\n"


def test_the_help_names_the_categories(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["container", "deploy", "--help"]) == 0
    said = capsys.readouterr().out
    assert "{" + ",".join(CATEGORIES) + "}" in said
    assert f"its folder (default: {DEFAULT_CATEGORY})" in said
