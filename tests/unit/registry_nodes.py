"""Nodes whose registries are folders of this machine: the scripts run for real, with sh and find and awk.

What a test machine lacks stands in: rsync copies from the other node's folder what is missing of a file,
apptainer accepts what has the word SIGNED in it, salloc copies as sbcast would, systemd does nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import sif
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.apptainer_files import PUBLIC_KEY
from hpcstate.node.ssh import Live, UnreachableError, User
from hpcstate.registry import difference as registry_difference
from hpcstate.registry import layout as registry
from hpcstate.registry import scripts
from hpcstate.run import Result

RSYNC = """#!/bin/sh
case "$*" in *127.0.0.1*) exit 0;; esac
[ ! -e "$FAKE/full" ] || { echo 'rsync: write failed: No space left on device (28)' >&2; exit 11; }
for last; do source=$target; target=$last; done
case "$source" in
rsync://*) rest=${source#rsync://}; host=${rest%%:*}; node=$(cat "$FAKE/names/$host")
    [ ! -e "$FAKE/silent/$node" ] || { echo "rsync: failed to connect to $host" >&2; exit 10; }
    source="$FAKE/$node/opt/containers/${rest#*/containers/}"; echo "$node" >>"$FAKE/sources";;
esac
case "$target" in
*@*) rest=${target#*@}; host=${rest%%:*}; target="$FAKE/$(cat "$FAKE/names/$host")${rest#*:}";;
esac
there=0; [ ! -e "$target" ] || there=$(stat -c %s "$target")
if [ -e "$FAKE/cut" ]; then tail -c +$((there + 1)) "$source" | head -c 1000 >>"$target"; rm "$FAKE/cut"
    echo 'rsync: connection unexpectedly closed' >&2; exit 12; fi
echo "$((there)) $target" >>"$FAKE/rsync"
tail -c +$((there + 1)) "$source" >>"$target"
"""
APPTAINER = """#!/bin/sh
for last; do before=$file; file=$last; done
case "$*" in
*verify*) grep -q SIGNED "$file" || { echo 'FATAL: signature not found' >&2; exit 255; };;
*push*) cp "$before" "$FAKE/pushed";;
*pull*) cp "$FAKE/pushed" "$before";;
esac
"""
SALLOC = """#!/bin/sh
[ ! -e "$FAKE/busy" ] || { echo 'salloc: error: Unable to allocate resources' >&2; exit 1; }
while [ "$1" != sbcast ]; do case "$1" in -w) nodes=$2;; esac; shift; done
for last; do source=$target; target=$last; done
for node in $(echo "$nodes" | tr , ' '); do cp "$source" "$FAKE/$node/${target#"$FAKE"/controller/}"; done
echo "$nodes" >>"$FAKE/sbcast"
"""


def sif_file(path: Path, content: bytes = b"x" * 5000, *, signed: bool = True) -> Path:
    """A small file with the header and the descriptors of a SIF; ``content`` stands for its file system."""
    objects = [(0x4004, content)] + ([(0x4005, b"SIGNED")] if signed else [])
    at = sif.HEADER.size + len(objects) * sif.DESCRIPTOR.size
    header = [b"#!/usr/bin/env run-singularity\n", sif.MAGIC, b"01\0", b"02\0", b"\0" * 16]
    size = sum(len(part) for _, part in objects)
    packed = sif.HEADER.pack(
        *header[:5], 0, 0, 0, len(objects), sif.HEADER.size, len(objects) * sif.DESCRIPTOR.size, at, size
    )
    table, data = b"", b""
    for kind, part in objects:
        table += sif.DESCRIPTOR.pack(kind, True, 1, 1, 0, at + len(data), len(part), 0, 0, 0, 0, 0, b"", b"")
        data += part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed + table + data)
    return path


class LocalNodes(Live):
    """The nodes of ``cluster`` below the folder ``at``; those of ``dead`` do not answer."""

    at = Path("/nonexistent")
    dead: Collection[str] = ()

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        for node in cluster.nodes:
            (self.at / node.name / "opt").mkdir(parents=True, exist_ok=True)
            (self.at / node.name / "run").mkdir(exist_ok=True)
            key = self.at / node.name / PUBLIC_KEY[1:]
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_text("key")
            (self.at / "names").mkdir(exist_ok=True)
            (self.at / "names" / str(node.address)).write_text(node.name)

    def __enter__(self) -> LocalNodes:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def reach(self) -> dict[str, UnreachableError]:
        self.nodes = tuple(
            node for node in self.cluster.nodes if node.auto_start or node.name not in self.dead
        )
        return {name: UnreachableError(name, "it does not answer on SSH", hint="") for name in self.dead}

    def transport(self, node: str) -> tuple[str, str]:
        return "ssh", f"admin@{self.node(node).address}"

    def run(
        self, node: str, script: str, *, user: User = "admin", timeout: float = 60, check: bool = True
    ) -> Result:
        if node in self.dead:
            raise UnreachableError(node, "it does not answer on SSH", hint="")
        for path in ("/opt", "/etc/hpcstate", "/run/hpcstate"):
            script = script.replace(path, f"{self.at / node}{path}")
        done = subprocess.run(
            ["sh", "-s"],
            input=f"{{\n{script}\n}} </dev/null\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise HpcstateError(f"a command ended with {done.returncode}: {done.stderr}", where=node)
        printed = done.stdout.replace(f"{self.at / node}/", "/")
        return Result(("sh",), done.returncode, printed, done.stderr)

    def registry_of(self, node: str) -> Path:
        """The folder of the registry of ``node``."""
        return self.at / node / registry.ROOT[1:]


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[LocalNodes]:
    """The class whose instances are clusters below ``tmp_path``, with the programs that stand in on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    quiet = dict.fromkeys(("systemd-run", "systemctl", "sync"), "#!/bin/sh\n")
    for name, text in {"rsync": RSYNC, "apptainer": APPTAINER, "salloc": SALLOC, **quiet}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    fake = tmp_path / "nodes"
    (fake / "silent").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(fake))
    # Not the key of this checkout, which the nodes would not have.
    key = tmp_path / "containers.pub.pem"
    key.write_text("key")
    monkeypatch.setattr(paths, "PUBLIC_KEY", key)
    owner = f"{tmp_path.owner()}:{tmp_path.group()}"
    owners = (
        (registry, "OWNER"),
        (registry, "INCOMING_OWNER"),
        (registry_difference, "OWNER"),
        (scripts, "OWNER"),
    )
    for module, name in owners:
        monkeypatch.setattr(module, name, owner)
    monkeypatch.setattr(LocalNodes, "at", fake)
    monkeypatch.setattr(LocalNodes, "dead", ())
    return LocalNodes
