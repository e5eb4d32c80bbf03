"""Each route to a container besides the declared one, with Apptainer and buildah as they are: one result.

All start from the same small image. The Dockerfile through Docker is test_docker.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import engine as container_engine
from hpcstate.container import inspect as container_inspect
from hpcstate.container import sif, signing
from hpcstate.container.toolbox import Toolbox
from hpcstate.digest import file_digest
from tests.containers.command import hpcstate
from tests.containers.tiny import DOCKERFILE, Workplace, said_in

_DEFINITION = """\
Bootstrap: docker-archive
From: tiny.tar

%post
    echo "by the definition" >/etc/made
"""

MADE = {
    "converted": ("base: {archive: tiny.tar}", {}, ""),
    "definition": ("", {"container.def": _DEFINITION}, "by the definition"),
    "dockerfile": ("", {"Dockerfile": DOCKERFILE}, "by the Dockerfile"),
}
"""For each route what its container.yaml has, its files, and what is in /etc/made."""


def save(
    tree: Path, file: Path, *, environment: Sequence[str] = ("PATH=/bin",), folder: str = "", **greetings: str
) -> Path:
    """Write images of ``tree`` to ``file`` as `docker save` does: the name of each, and what it says."""
    layer = tree.read_bytes()
    members, manifest = {"layer.tar": layer}, []
    for name, greeting in greetings.items():
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": ["/bin/sh", "-c"],
                "Cmd": [f"echo {greeting} from $0"],
                "Env": list(environment),
                "WorkingDir": folder,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        members[f"{name}.json"] = json.dumps(config).encode()
        manifest.append({"Config": f"{name}.json", "RepoTags": [f"{name}:1"], "Layers": ["layer.tar"]})
    members["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file


@pytest.fixture(scope="module")
def archive(tree: Path) -> Path:
    """One image in a file."""
    return save(tree, tree.with_name("tiny.tar"), tiny="hello")


@pytest.mark.parametrize("route", MADE)
def test_each_route_ends_in_a_signed_container_and_the_same_bytes_again(
    route: str,
    workplace: Workplace,
    tree: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(container_engine, "docker_version", lambda: "")
    more, files, made = MADE[route]
    digest = f"sha256:{file_digest(archive)}"
    origin = {"converted": {"archive:tiny.tar": digest}, "definition": {"base:tiny.tar": digest}}.get(
        route, {}
    )
    declared = workplace.declare(files, (tree, archive), more)
    assert declared.route == route
    found = [workplace.build(declared, run) for run in ("first", "second")]
    assert found[0].digest == found[1].digest
    file = paths.container("tiny")
    assert signing.verified(workplace.tools, file) == ""
    labels = container_inspect.inspect(file, workplace.tools).labels
    assert labels["hpcstate.source"] == "containers/tiny" and labels["hpcstate.key"] == found[0].key
    assert {name: labels.get(name) for name in origin} == origin
    if made:
        assert workplace.says("sh", "-c", "read line </etc/made && echo $line") == made
    if route != "definition":
        assert workplace.says(verb="run") == "hello from /bin/sh"


def test_one_image_of_an_archive_is_converted_by_the_command(
    tree: Path, tools: Toolbox, tmp_path: Path
) -> None:
    file = save(tree, tmp_path / "two.tar", tiny="hello", other="goodbye")
    for number in (1, 2):
        done = hpcstate("convert", f"docker-archive:{file}:other:1", tmp_path / f"{number}.sif")
        assert done.returncode == 0, done.stderr
    first, second = (tmp_path / f"{number}.sif" for number in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    assert sif.read(first).signed and signing.verified(tools, first) == ""
    assert said_in(tools, first, verb="run") == "goodbye from /bin/sh"
    assert said_in(tools, first, "echo $1", "x", "instead", verb="run") == "instead"
