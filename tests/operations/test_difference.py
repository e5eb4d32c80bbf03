"""What ``pyinfra --diff`` shows of files: on this host (@local), by pyinfra as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.node.file_change import HIDDEN
from operations import slurm, text_files
from operations.text_files import TextFile
from tests.operations.harness import FakeState, run

DEPLOY = """
import getpass, grp, os
from operations import text_files
from operations.text_files import TextFile
from pyinfra.operations import files
from io import StringIO

_me = f"{{getpass.getuser()}}:{{grp.getgrgid(os.getgid()).gr_name}}"
text_files.put(
    name="Ours",
    files=[
        TextFile("{at}/changed", "same\\nnew\\n", owner=_me),
        TextFile("{at}/created", "hello\\n", owner=_me),
        TextFile("{at}/right", "right\\n", owner=_me),
        TextFile("{at}/mode", "right\\n", mode="755", owner=_me),
        TextFile("{at}/password", "not-for-you\\n", mode="600", owner=_me),
    ],
)
text_files.absent(name="Gone", paths=["{at}/gone", "{at}/never-was"])
files.put(name="Theirs", src=StringIO("same\\nnew\\n"), dest="{at}/theirs", create_remote_dir=False)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    at = tmp_path / "at"
    at.mkdir()
    for name in ("changed", "theirs"):
        (at / name).write_text("same\nold\n")
    for name in ("right", "mode", "gone"):
        (at / name).write_text("right\n")
    (at / "password").write_text("the-old-one\n")
    for path in at.iterdir():
        path.chmod(0o644)
    (tmp_path / "deploy.py").write_text(DEPLOY.format(at=at))
    return at


def pyinfra(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "pyinfra", "@local", str(folder.parent / "deploy.py"), *options]
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT), "PYINFRA_PROGRESS": "off"}
    done = subprocess.run(
        program, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def block(log: str, title: str) -> list[str]:
    """The lines under ``title``, up to an empty one."""
    lines = [line.strip() for line in log.splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.endswith(title))
    return lines[begin + 1 : lines.index("", begin)]


def test_a_plan_shows_the_differences_as_pyinfras_own_operations_do(folder: Path) -> None:
    done = pyinfra(folder, "--dry", "--diff", "--json")
    assert json.loads(pyinfra(folder, "--dry", "--json").stdout) == json.loads(done.stdout)
    ours = block(done.stderr, f"Will modify {folder}/changed")
    assert ours == block(done.stderr, f"Will modify {folder}/theirs")
    assert ours == ["@@ -1,2 +1,2 @@", "same", "- old", "+ new"]
    assert block(done.stderr, f"Will create {folder}/created") == ["@@ -0,0 +1 @@", "+ hello"]
    assert block(done.stderr, f"Will modify {folder}/mode") == ["mode 644 -> 755"]
    assert f"Will remove {folder}/gone" in done.stderr
    assert "never-was" not in done.stderr and f"{folder}/right" not in done.stderr
    for secret in ("not-for-you", "the-old-one"):
        assert secret not in done.stderr + done.stdout
    planned: list[dict[str, Any]] = json.loads(done.stdout)["plan"]
    files = {each["path"]: each for each in planned[0]["files"]}
    assert files[f"{folder}/changed"]["diff"].splitlines()[2:] == ["@@ -1,2 +1,2 @@", " same", "-old", "+new"]
    assert files[f"{folder}/created"]["there"] is False
    assert files[f"{folder}/password"]["diff"] == HIDDEN
    assert [each["path"] for each in planned[1]["files"]] == [f"{folder}/gone"]
    assert planned[2]["files"] == [], "one of pyinfra's own"
    assert (folder / "changed").read_text() == "same\nold\n"


def test_a_deploy_shows_each_difference_once(folder: Path) -> None:
    done = pyinfra(folder, "-y", "--diff")
    assert done.stderr.count(f"Will modify {folder}/changed") == 1
    assert block(done.stderr, f"Will modify {folder}/changed")[-2:] == ["- old", "+ new"]
    assert (folder / "changed").read_text() == "same\nnew\n"
    assert "not-for-you" not in done.stderr and (folder / "password").read_text() == "not-for-you\n"
    assert "Will" not in pyinfra(folder, "-y", "--diff").stderr, "nothing differs any more"


def test_without_diff_nothing_is_asked_or_told() -> None:
    """The harness knows no FileContents: asking for it would fail."""
    facts: dict[str, Any] = {"facts.text_files.TextFiles": {"*": {}}}
    assert run(text_files.put, [TextFile("/etc/motd", "hello\n")], facts=facts).commands


def test_what_is_known_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's files are read anyway: here, too, FileContents is not recorded, but for one that is missing."""
    monkeypatch.setattr(FakeState.config, "DIFF", True)
    daemon = {"installed": True, "active": False, "enabled": False, "version": ""}
    facts: dict[str, Any] = {
        "facts.slurm.SlurmDaemons": dict.fromkeys(("slurmctld", "slurmd", "slurmdbd", "munge"), daemon),
        "facts.slurm.SlurmFiles": {"*": {"slurm.conf": "ClusterName=old\n"}},
    }
    assert run(slurm.submit_host, {"slurm.conf": "ClusterName=new\n"}, facts=facts).commands
