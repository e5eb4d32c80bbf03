"""The smallest container with a shell: its files, and the folder that says how it is made."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact.store import Manifest, Store
from hpcstate.container import build as container_build
from hpcstate.container import declared as container
from hpcstate.container import engine as container_engine
from hpcstate.container import routes as container_routes
from hpcstate.container import toolbox as tools_root
from hpcstate.container.toolbox import Toolbox
from hpcstate.model.container import Container

NAME = "tiny"

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
name: tiny
version: "1"
summary: a shell
category: custom-images
{more}
tests:
  - {{name: the shell runs, command: [sh, -c, "echo $((6 * 7))"], expect: "^42"}}
"""

DOCKERFILE = """\
FROM scratch
ADD tree.tar /
RUN ["/bin/sh", "-c", "echo by the Dockerfile >/etc/made"]
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo hello from $0"]
"""


def write_tree(file: Path, tools: Toolbox) -> Path:
    """Write the tar ``file`` of the image's files, which are those of the tools root."""
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


class Workplace:
    """A containers/ with ``tiny`` in it, and builds of it, each in folders of its own."""

    def __init__(self, at: Path, tools: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.tools = at, tools
        self.own = at / "containers" / NAME
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(paths, "CONTAINERS", self.own.parent)
        monkeypatch.setattr(tools_root, "toolbox", lambda _: tools)

    def declare(self, files: dict[str, str], copied: tuple[Path, ...] = (), more: str = "") -> Container:
        """Write the container's folder: its container.yaml with ``more``, ``files``, and copies of others."""
        self.own.mkdir(parents=True, exist_ok=True)
        (self.own / "container.yaml").write_text(_YAML.format(more=more))
        for name, text in files.items():
            (self.own / name).write_text(text)
        for file in copied:
            (self.own / file.name).write_bytes(file.read_bytes())
        return container.load(NAME)

    def build(self, declared: Container, run: str, reports: list[str] | None = None) -> Manifest:
        """Build ``declared`` with the build/ and the store of ``run``, which begin empty."""
        self._monkeypatch.setattr(paths, "BUILD", self.at / run / "build")
        self._monkeypatch.setattr(container_engine, "STORAGE", self.at / run / "buildah")
        self._monkeypatch.setattr(container_routes, "CACHE", self.at / run / "cache")
        store = Store(self.at / run / "store", report=lambda _: None)
        report = reports.append if reports is not None else lambda _: None
        return container_build.recipe(declared, store, report).provide(store)

    def says(self, *words: str, verb: str = "exec") -> str:
        """What a command prints in the container that was built last."""
        return said_in(self.tools, paths.container(NAME), *words, verb=verb)


def said_in(tools: Toolbox, file: Path, *words: str, verb: str = "exec") -> str:
    """What a command prints in the container ``file``; with ``verb`` run, its entry point with ``words``."""
    binds = {file: "/image.sif"}
    line = ["--silent", verb, "--userns", *tools.contained, "--no-home", tools.at(file, binds), *words]
    return tools.apptainer(line, binds=binds).stdout.strip()
