"""A disk that runs full: a message, nothing half done, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hpcstate.paths import ROOT

BUILD = """
    import sys
    from pathlib import Path
    from hpcstate.artifact.recipe import Recipe
    from hpcstate.errors import HpcstateError
    from hpcstate.artifact.store import Store

    disk, size = Path(sys.argv[1]), int(sys.argv[2])

    def make(target):
        target.write_bytes(bytes([1]) * size)
        return {}

    artifact = disk / "out" / "image.qcow2"
    try:
        Recipe(artifact, {"builder": 1}, make).provide(Store(disk / "store"))
        print("built")
    except HpcstateError as error:
        print(error)
    print("left:", *sorted(str(p.relative_to(disk)) for p in disk.rglob("*") if p.is_file()))
"""


def on_small_disk(tmp_path: Path, *sizes: int) -> str:
    """Build artifacts of these sizes (bytes), one after the other, on a real file system of 1 MiB."""
    script = tmp_path / "build.py"
    script.write_text(textwrap.dedent(BUILD))
    disk = tmp_path / "disk"
    disk.mkdir()
    builds = "; ".join(f"{sys.executable} {script} {disk} {size}" for size in sizes)
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    words += ["sh", "-ec", f"mount -t tmpfs -o size=1m none {disk}; {builds}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, env=environment, text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("size", "left"),
    [
        pytest.param(2_000_000, "left:\n", id="while building"),
        pytest.param(700_000, "left: out/image.qcow2 out/image.qcow2.json\n", id="while storing"),
    ],
)
def test_a_full_disk_is_a_message(tmp_path: Path, size: int, left: str) -> None:
    said = on_small_disk(tmp_path, size)
    assert "No space left on device" in said
    assert "hint: free some space; what was there before stays" in said
    assert said.endswith(left)


def test_the_next_run_goes_on(tmp_path: Path) -> None:
    said = on_small_disk(tmp_path, 2_000_000, 100_000)
    assert said.count("built") == 1
    assert "store/" in said.splitlines()[-1]
