"""quotas.sh for real, with stand-ins for the programs of quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.probe import quotas
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "sed", "grep", "cat", "sha256sum", "cut")
CSV = """\
User,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace
#0,ok,ok,20,0,0,,2,0,0,
#2001,ok,ok,4,0,2097152,,1,0,0,
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "dumpe2fs", "echo 'Filesystem features:      has_journal quota metadata_csum'")
    stand_in(folder, "systemctl", "echo enabled")
    return folder


def look(tools: Path, root: Path) -> quotas.QuotasState:
    question = quotas.command("/top", "/dev/x", "/record", ["/a", "/b"], "lab.service", str(root))
    return quotas.parse(run(question, tools, root))


def test_limits_that_hold(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "setquota", "exit 1")
    stand_in(tools, "python3", '[ "$1 $2" = "- /dev/x" ]')
    stand_in(tools, "repquota", f"cat <<'END'\n{CSV}END\n")
    (tmp_path / "record").write_text("2001\n")
    (tmp_path / "a").write_text("x")
    found = look(tools, tmp_path)
    assert found["programs"] and found["on"] and found["feature"] == "yes" and found["enabled"]
    assert (found["limits"], found["record"]) == ({2001: 2097152}, [2001])
    assert len(found["boot"]) == 64


def test_limits_that_only_count(tools: Path, tmp_path: Path) -> None:
    """quotaoff on an ext4 with the feature: `quotaon -p` goes on to say that they are on."""
    stand_in(tools, "setquota", "exit 1")
    stand_in(tools, "quotaon", "echo 'user quota on /top (/dev/x) is on'")
    stand_in(tools, "python3", "exit 1")
    stand_in(tools, "repquota", f"cat <<'END'\n{CSV}END\n")
    found = look(tools, tmp_path)
    assert found["programs"] and not found["on"]


def test_a_node_without_the_programs(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "dumpe2fs", "echo 'Filesystem features:      has_journal'")
    assert look(tools, tmp_path) == {**quotas.parse(""), "feature": "no"}
