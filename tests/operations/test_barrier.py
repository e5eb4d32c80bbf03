"""The barrier between groups of hosts, run by pyinfra for hosts that only pretend (@fake)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate import paths

DEPLOY = """
from pyinfra.context import host
from pyinfra.operations import server
from operations import barrier
server.shell(name="drain", commands=["drain"] if host.name.endswith("b") and {before} else [])
barrier.wait(name="barrier", what="been drained")
server.shell(name="slurmctld", commands=["change slurmctld"] if {after} else [])
"""


def run(tmp_path: Path, *flags: str, before: bool, after: bool) -> tuple[int, str]:
    """pyinfra's exit code and output, on the hosts a and b."""
    inventory, deploy = tmp_path / "inventory.py", tmp_path / "deploy.py"
    inventory.write_text('hosts = ["@fake/a", "@fake/b"]\n')
    deploy.write_text(DEPLOY.format(before=before, after=after))
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", *flags, "-v", str(inventory), str(deploy)],
        cwd=paths.ROOT,
        env={
            **os.environ,
            "PYINFRA_FAKE_DELAY": "0.5",
            "PYINFRA_FAKE_DELAY_JITTER": "0",
            "PYTHONPATH": str(paths.ROOT),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("flag", ["--serial", "--no-wait"])
@pytest.mark.parametrize("before", [True, False])
def test_host_by_host_nothing_passes_the_barrier(tmp_path: Path, flag: str, before: bool) -> None:
    _, said = run(tmp_path, "-y", flag, before=before, after=True)
    if flag == "--no-wait" and not before:
        return  # both hosts may come to the barrier at once
    # pyinfra takes hosts in no certain order: the second is stopped as well as the first.
    assert len(re.findall(r"@fake/[ab] have not yet been drained", said)) >= 1
    assert "leave them out" in said
    assert not re.search(r"slurmctld +\d+ +[1-9]", said), said


@pytest.mark.parametrize("flags", [("-y",), ("-y", "--serial"), ("-y", "--no-wait")])
def test_with_nothing_to_change_any_order_is_right(tmp_path: Path, flags: tuple[str, ...]) -> None:
    code, said = run(tmp_path, *flags, before=False, after=False)
    assert code == 0, said


def test_in_pyinfras_usual_order_the_barrier_lets_through(tmp_path: Path) -> None:
    code, said = run(tmp_path, "-y", before=True, after=True)
    assert code == 0, said
    assert "have not yet" not in said
