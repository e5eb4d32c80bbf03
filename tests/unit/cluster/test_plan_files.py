"""The files of nodes that differ: which are compared, how they are read, how they are shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.cluster.plan import Plan, Step
from hpcstate.cluster.plan_files import changes, look_with, wanted
from hpcstate.cluster.plan_text import as_text
from hpcstate.errors import HpcstateError
from hpcstate.node.file_change import FileChange
from hpcstate.probe import node_files
from tests.unit.fake_live import FakeLive

BELOW = "/etc/hosts"


def test_the_rendered_files_of_a_node_are_compared() -> None:
    cluster = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
    files = wanted(cluster)
    assert files.keys() == {node.name for node in cluster.nodes}
    assert "/etc/slurm/slurm.conf" in files["compute-01"]
    assert any(path.startswith("/etc/") and "slurm" not in path for path in files["compute-01"])


def test_what_differs_is_a_diff_and_what_is_so_is_not_there() -> None:
    found = changes("a", {"/x": "1\n2\n", "/y": "new\n", "/z": "z\n"}, {"/x": "1\n3\n", "/z": "z\n"})
    assert [(each.path, each.there) for each in found] == [("/x", True), ("/y", False)]
    assert found[0].diff.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " 1", "-3", "+2"]


def test_what_a_node_says_does_not_command_a_terminal() -> None:
    (change,) = changes("a", {"/x": "1\n"}, {"/x": "\x1b[2Jgone\x07\n"})
    assert "\x1b" not in change.diff and "\x07" not in change.diff
    assert "gone" in change.diff


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "it's one").write_text("ünï\n\nend without newline")
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * (node_files.LIMIT + 10))
    names = [str(tmp_path / name) for name in ("it's one", "none", "empty", "large")]
    done = subprocess.run(["sh", "-c", node_files.command(names)], capture_output=True, text=True, check=True)
    found = node_files.parse(done.stdout, names)
    assert found[names[0]] == "ünï\n\nend without newline"
    assert names[1] not in found
    assert found[names[2]] == ""
    assert len(found[names[3]]) == node_files.LIMIT


@pytest.mark.parametrize("text", ["", "-\n-\n-\n", "-\n+%%%\n"])
def test_an_answer_that_is_none_names_its_node(text: str) -> None:
    live = FakeLive(lambda *_: text)
    with pytest.raises(HpcstateError) as caught:
        look_with(live, {"compute-01": {"/x": "", "/y": ""}})
    assert caught.value.where == "compute-01"


def test_nodes_are_read_as_root_each_once() -> None:
    live = FakeLive(lambda *_: "-\n")
    found = look_with(live, {"compute-01": {"/x": "1\n"}, "compute-02": {"/x": "1\n"}})
    assert [each.node for each in found] == ["compute-01", "compute-02"]
    assert [user for _, user, _ in live.scripts] == ["root", "root"]


def test_a_diff_is_shown_when_it_is_asked_for() -> None:
    step = Step("nodes", "Hosts", "change a")
    (change,) = changes("a", {BELOW: "2\n"}, {BELOW: "1\n"})
    made = Plan((step,), files=(change, FileChange("b", "/y", False, "")))
    assert "files that differ (-v shows how):\n  a: /etc/hosts\n  b: /y is not there" in as_text(made)
    assert "  a: /etc/hosts\n    @@ -1 +1 @@\n    -1\n    +2\n" in as_text(made, diffs=True)
