"""The containers that this run built: the same bytes again from nothing, and refused when altered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact.store import Manifest, Store
from hpcstate.container import build as container_build
from hpcstate.container import declared as container
from hpcstate.container import layers as container_layers
from hpcstate.container import sif, signing
from hpcstate.container import toolbox as tools_root
from hpcstate.container.toolbox import Toolbox
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError
from tests.containers.command import hpcstate

NAME = "mpi-minimal"


@pytest.mark.parametrize("name", ["mpi-minimal", "pytorch-cpu-mpi"])
def test_what_was_built_is_whole_and_signed(name: str, tools: Toolbox) -> None:
    built = paths.container(name)
    manifest = Manifest.read(paths.sidecar(built))
    assert manifest is not None and manifest.size == built.stat().st_size
    assert sif.read(built).signed
    assert signing.verified(tools, built) == ""
    labels = json.loads(hpcstate("info", name, "--json").stdout)["labels"]
    assert labels["hpcstate.key"] == manifest.key
    assert labels["hpcstate.source"] == f"containers/{name}"


def test_built_again_from_nothing_it_is_the_same_bytes(
    tmp_path: Path, tools: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packages are fetched and installed again: only the tools root is the one that is there."""
    first = Manifest.read(paths.sidecar(paths.container(NAME)))
    assert first is not None
    monkeypatch.setattr(tools_root, "toolbox", lambda store: tools)
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    loaded, store = container.load(NAME), Store(tmp_path / "store")
    said: list[str] = []
    again = container_build.recipe(loaded, store, said.append).provide(store)
    assert (again.key, again.versions) == (first.key, first.versions)
    assert again.digest == first.digest
    assert any(line.startswith("passed two ranks agree") for line in said)


def test_the_layer_of_wheels_is_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two wheels of the real container, one of them compiled C, installed on its real packages."""
    real = container.load("pytorch-cpu-mpi")
    lock = (container.folder(real.name) / real.wheels).read_text()
    few = [
        requirement
        for requirement in re.split(r"(?m)^(?=\w)", lock)
        if requirement.startswith(("jinja2==", "markupsafe=="))
    ]
    assert len(few) == 2
    own = tmp_path / "containers" / real.name
    own.mkdir(parents=True)
    (own / real.wheels).write_text("".join(few))
    packages = paths.container(real.name).parent / "layers" / "packages"
    monkeypatch.setattr(paths, "CONTAINERS", own.parent)
    digests = []
    for number in (1, 2):
        monkeypatch.setattr(paths, "BUILD", tmp_path / str(number))
        there = paths.container(real.name).parent / "layers" / "packages"
        shutil.copytree(packages, there, copy_function=os.link)
        tars, versions = container_layers.layers(real, Store(tmp_path / "store", report=lambda _: None))
        assert {"python:jinja2", "python:markupsafe"} <= set(versions)
        digests.append(file_digest(tars[1]))
    assert digests[0] == digests[1]
    with tarfile.open(tars[1]) as tar:
        files = tar.getnames()
    assert any(name.endswith(".so") for name in files) and any(name.endswith(".pyc") for name in files)


def test_an_altered_container_is_refused(tmp_path: Path) -> None:
    altered = tmp_path / "altered.sif"
    data = bytearray(paths.container(NAME).read_bytes())
    at = next(entry for entry in sif.read(paths.container(NAME)).objects if entry.kind == "partition")
    data[at.offset + at.size // 2] ^= 1
    altered.write_bytes(data)
    done = hpcstate("verify", altered, NAME)
    assert done.returncode == 1
    bad, good = done.stdout.splitlines()
    assert "integrity" in bad and good.endswith("signed by the key")
    altered.write_bytes(data[: len(data) // 2])
    with pytest.raises(HpcstateError, match="its objects need"):
        sif.read(altered)


def test_a_command_runs_in_it() -> None:
    done = hpcstate("shell", NAME, "--", "sh", "-c", "cat /etc/debian_version; id -u; pwd")
    assert done.returncode == 0, done.stderr
    version, user, folder = done.stdout.splitlines()
    assert version.startswith("13") and (user, folder) == ("0", "/mnt")


def test_nothing_is_built_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "build_containers:mpi-minimal", "build_containers:pytorch-cpu-mpi"],
        capture_output=True,
        text=True,
        check=True,
        cwd=paths.ROOT,
    )
    assert done.stdout.splitlines() == [
        "-- build_containers:mpi-minimal",
        "-- build_containers:pytorch-cpu-mpi",
    ]
