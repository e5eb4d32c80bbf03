"""`doit up` that cannot, or may not, do what it is asked for: said first, and nothing is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.paths import ROOT

HOW = pytest.mark.parametrize("how", [[], ["-n", "2"], ["--continue"]], ids=["plain", "parallel", "continue"])


@HOW
def test_nothing_is_built_for_a_cluster_that_cannot_run(tmp_path: Path, how: list[str]) -> None:
    """Its devices are not there. Packer would fail at once here, should it be called."""
    text = (ROOT / "inventories" / "passthrough.yaml").read_text()
    file = tmp_path / "elsewhere.yaml"
    file.write_text(text.replace('"0000:01:00', '"0000:fd:1f').replace('"0000:07:00', '"0000:fe:1f'))
    environment = {**os.environ, "HPCSTATE_BUILD": str(tmp_path / "build"), "HPCSTATE_PACKER": "/bin/false"}
    done = subprocess.run(
        [sys.executable, "-m", "doit", *how, "up", f"cluster={file}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "this host has no PCI device 0000:fd:1f.0" in said
    assert "build_images" not in said
    assert not (tmp_path / "build" / "packer").exists()
    assert "Traceback" not in said


@HOW
def test_nothing_is_built_before_what_will_be_done_is_agreed_to(tmp_path: Path, how: list[str]) -> None:
    """The plan that is to be carried out is not there."""
    environment = {**os.environ, "HPCSTATE_BUILD": str(tmp_path / "build"), "HPCSTATE_PACKER": "/bin/false"}
    file = ROOT / "inventories" / "minimal.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "doit", *how, "up", f"cluster={file}", f"plan={tmp_path}/none.json"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "announce failed" in said, "by the name of the task, not of a class of doit's"
    assert f"{tmp_path}/none.json: there is no such file" in said
    assert "build_images" not in said
    assert not (tmp_path / "build" / "packer").exists()
    assert "Traceback" not in said
