"""Runs the program behind facts.node_runs for real, on a tree made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hpcstate.probe import node_runs
from tests.facts.machine import AWKWARD, programs, run

TOOLS = ("head", "readlink", "sed", "sha256sum")


def test_a_node_with_all_of_it(tmp_path: Path) -> None:
    root = tmp_path / AWKWARD
    folder = root / "ml-frameworks"
    folder.mkdir(parents=True)
    current = folder / "torch-1.0-123456789abc.sif"
    current.write_text("x")
    (folder / "torch.sif").symlink_to(current.name)
    (folder / "lost.sif").symlink_to("lost-1.0-aaaaaaaaaaaa.sif")  # what it stands for is not there
    image, hosts = root / "image", root / "hosts"
    image.write_text("hpc-base-0f3a5c7e9b1d\nmore\n")
    hosts.write_text("127.0.0.1 localhost\n")
    command = node_runs.command([str(hosts), str(root / "missing")], str(image), str(root))
    assert node_runs.parse(run(command, programs(tmp_path / "tools", TOOLS), tmp_path)) == {
        "image": "hpc-base-0f3a5c7e9b1d",
        "files": {str(hosts): hashlib.sha256(hosts.read_bytes()).hexdigest()},
        "containers": {"torch": "123456789abc"},
    }


def test_a_machine_with_none_of_it(tmp_path: Path) -> None:
    command = node_runs.command([str(tmp_path / "none")], str(tmp_path / "image"), str(tmp_path / "registry"))
    text = run(command, programs(tmp_path / "tools", TOOLS), tmp_path)
    assert node_runs.parse(text) == {"image": "", "files": {}, "containers": {}}
