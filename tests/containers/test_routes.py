"""Each route to a container besides the declared one, with Apptainer and an engine as they are: one result.

All start from the same small image: the shell of the tools root, and the two libraries that it needs.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hpcstate import (
    container,
    container_build,
    container_engine,
    container_inspect,
    container_routes,
    paths,
    sif,
    signing,
    tools_root,
)
from hpcstate.artifact import provide
from hpcstate.digest import file_digest
from hpcstate.model.container import Container
from hpcstate.store import Manifest, Store
from hpcstate.tools_root import Toolbox

_SHELL = {
    "usr/bin/dash": "bin/sh",
    "usr/lib/x86_64-linux-gnu/libc.so.6": "lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib64/ld-linux-x86-64.so.2": "lib64/ld-linux-x86-64.so.2",
}
"""Where the tools root has a file, and where the image has it."""

_FOLDERS = (
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/x86_64-linux-gnu",
    "lib64",
    "proc",
    "sys",
    "tmp",
    "var",
    "var/tmp",
)

_YAML = """\
name: {name}
version: "1"
summary: a shell
category: custom-images
{more}
tests:
  - {{name: the shell runs, command: [sh, -c, "echo $((6 * 7))"], expect: "^42"}}
"""

_DEFINITION = """\
Bootstrap: docker-archive
From: tiny.tar

%post
    echo "by the definition" >/etc/made
"""

_DOCKERFILE = """\
FROM scratch
ADD tree.tar /
RUN ["/bin/sh", "-c", "echo by the Dockerfile >/etc/made"]
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo hello from $0"]
"""

MADE = {
    "converted": ("base: {archive: tiny.tar}", {}, ""),
    "definition": ("", {"container.def": _DEFINITION}, "by the definition"),
    "dockerfile": ("", {"Dockerfile": _DOCKERFILE}, "by the Dockerfile"),
}
"""For each route what its container.yaml has, its files, and what is in /etc/made."""


@pytest.fixture(scope="module")
def tools() -> Toolbox:
    return tools_root.toolbox(Store.default())


@pytest.fixture(scope="module")
def tree(tools: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of the image's files."""
    file = tmp_path_factory.mktemp("image") / "tree.tar"
    root = tools.root or Path("/")
    with tarfile.open(file, "w") as tar:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for source, name in _SHELL.items():
            content = (root / source).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return file


def save(tree: Path, file: Path, **greetings: str) -> Path:
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
                "Env": ["PATH=/bin"],
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


def said_in(tools: Toolbox, file: Path, *words: str, verb: str = "exec") -> str:
    """What a command prints in the container ``file``; with ``verb`` run, its entry point with ``words``."""
    binds = {file: "/image.sif"}
    line = ["--silent", verb, "--userns", "--containall", "--no-home", tools.at(file, binds), *words]
    return tools.apptainer(line, binds=binds).stdout.strip()


@pytest.mark.parametrize("route", MADE)
def test_each_route_ends_in_a_signed_container_and_the_same_bytes_again(
    route: str,
    tools: Toolbox,
    tree: Path,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more, files, made = MADE[route]
    digest = f"sha256:{file_digest(archive)}"
    origin = {"converted": {"archive:tiny.tar": digest}, "definition": {"base:tiny.tar": digest}}.get(
        route, {}
    )
    own = tmp_path / "containers" / "tiny"
    own.mkdir(parents=True)
    (own / "container.yaml").write_text(_YAML.format(name="tiny", more=more))
    for name, text in files.items():
        (own / name).write_text(text)
    for file in (tree, archive):
        (own / file.name).write_bytes(file.read_bytes())
    for module in (container, container_build):
        monkeypatch.setattr(module, "CONTAINERS", own.parent)
    monkeypatch.setattr(container_engine, "STORAGE", tmp_path / "buildah")
    monkeypatch.setattr(container_routes, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(tools_root, "toolbox", lambda _: tools)
    one = container.load("tiny")
    assert one.route == route
    found = []
    for number in (1, 2):
        monkeypatch.setattr(paths, "BUILD", tmp_path / f"build{number}")
        found.append(built(one, tmp_path / f"store{number}"))
    assert found[0].digest == found[1].digest
    file = paths.container("tiny")
    assert signing.verified(tools, file) == ""
    labels = container_inspect.inspect(file, tools).labels
    assert labels["hpcstate.source"] == "containers/tiny" and labels["hpcstate.key"] == found[0].key
    assert {name: labels.get(name) for name in origin} == origin
    if made:
        assert said_in(tools, file, "sh", "-c", "read line </etc/made && echo $line") == made
    if route != "definition":
        assert said_in(tools, file, verb="run") == "hello from /bin/sh"


def built(one: Container, at: Path) -> Manifest:
    store = Store(at, report=lambda _: None)
    return provide(
        paths.container(one.name),
        container_build.inputs(one),
        lambda target, work: container_build.make(one, target, work, store, lambda _: None),
        store=store,
    )


def test_one_image_of_an_archive_is_converted_by_the_command(
    tree: Path, tools: Toolbox, tmp_path: Path
) -> None:
    file = save(tree, tmp_path / "two.tar", tiny="hello", other="goodbye")
    for number in (1, 2):
        line = ["convert", f"docker-archive:{file}:other:1", str(tmp_path / f"{number}.sif")]
        done = subprocess.run(
            [sys.executable, "-m", "hpcstate", "container", *line],
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / f"{number}.sif" for number in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    assert sif.read(one).signed and signing.verified(tools, one) == ""
    assert said_in(tools, one, verb="run") == "goodbye from /bin/sh"
    assert said_in(tools, one, "echo $1", "x", "instead", verb="run") == "instead"
