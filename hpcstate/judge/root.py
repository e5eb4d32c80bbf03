"""The throwaway root: Slurm's daemons and what they load, taken out of a built image as one small tar.

The image's file system is read by debugfs(8), without mounting it; what to take follows from the programs
themselves (DT_NEEDED of each ELF file and symbolic links, followed until nothing is new).
"""

from __future__ import annotations

import os
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from hpcstate import paths
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import Recipe
from hpcstate.errors import HpcstateError
from hpcstate.image.disk import ROOT_START, SECTOR
from hpcstate.run import run, tail, which

_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_WANTED = (
    *(
        "/usr/sbin/slurmctld",
        "/usr/sbin/slurmd",
        "/usr/sbin/slurmstepd",
        "/usr/sbin/munged",
        "/usr/bin/scontrol",
    ),
    # Loaded by name at run time: Slurm's plugins, PMIx's components, the loader itself.
    *(f"{_LIBRARIES}/slurm-wlm", f"{_LIBRARIES}/pmix2", "/usr/lib64"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
)
_MERGED = ("bin", "lib", "lib64", "sbin")
"""Debian's links of / into /usr."""

_EXPORT_SECONDS = 5.0
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5


def recipe(image: Path, image_key: str) -> Recipe:
    """How the root of ``image``, whose key is ``image_key``, is made: in seconds, hence no store keeps it."""
    return Recipe(
        paths.throwaway_root(image), inputs(image_key), lambda target: make(image, target), keep=False
    )


def inputs(image_key: str) -> dict[str, Any]:
    """What the root of an image is made of, for its key."""
    return {"code": code_of("hpcstate.judge.root"), "image": image_key}


def make(image: Path, target: Path) -> dict[str, str]:
    """Write the tar of the root of ``image`` (qcow2, made by hpcstate.image.disk) to ``target``, which has a
    folder of its own.

    Raises HpcstateError when the image has no Slurm, or cannot be read.
    """
    work = target.parent
    root = work / "root"
    root.mkdir()
    take_out(image, _WANTED, root, work)
    if not (root / "usr/sbin/slurmctld").is_symlink() and not (root / "usr/sbin/slurmctld").is_file():
        raise HpcstateError("this image has no slurmctld", where=str(image))
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    with tarfile.open(target, "w") as tar:
        tar.add(root, arcname=".", filter=_anybody)
    return {}


def take_out(image: Path, wanted: Sequence[str], root: Path, work: Path) -> None:
    """Copy the files and folders ``wanted`` of ``image``, and what they need, to the folder ``root``; those
    that it has not are left out. ``work`` is a folder for what passes."""
    with _disk(image, work) as disk:
        _copy(f"{disk}?offset={ROOT_START * SECTOR}", wanted, root)


def _anybody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owner and time do not matter in the root, and would differ from run to run."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


@contextmanager
def _disk(image: Path, work: Path) -> Iterator[Path]:
    """The disk of ``image`` as a raw file: exported by FUSE, so that only what is read is unpacked; where
    there is no FUSE, unpacked wholly.
    """
    raw = work / "disk.raw"
    raw.touch()
    if which("qemu-storage-daemon") and Path("/dev/fuse").exists():
        # It ends with us, also when we are killed: nobody else knows of it.
        words = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "qemu-storage-daemon",
            "--blockdev",
            f"driver=file,filename={image},node-name=file,read-only=on",
        ]
        words += ["--blockdev", "driver=qcow2,file=file,node-name=disk,read-only=on"]
        words += ["--export", f"type=fuse,id=disk,node-name=disk,mountpoint={raw}"]
        export = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + _EXPORT_SECONDS
            while export.poll() is None and raw.stat().st_size == 0 and time.monotonic() < deadline:
                time.sleep(0.02)
            if export.poll() is None and raw.stat().st_size:
                yield raw
                return
        finally:
            export.terminate()
            export.wait()
    run(["qemu-img", "convert", "-O", "raw", image, raw])
    yield raw


def _copy(file_system: str, wanted: Sequence[str], root: Path) -> None:
    """Copy what is ``wanted``, and what it needs, from ``file_system`` (debugfs's name of it) to ``root``."""
    waiting, seen = list(wanted), set(wanted)
    while waiting:
        _debugfs_copy(file_system, waiting, root)
        found = {path for name in waiting for path in _needs(root, name)}
        waiting = sorted(path for path in found - seen if not os.path.lexists(_at(root, path)))
        seen |= found


def _debugfs_copy(file_system: str, names: Sequence[str], root: Path) -> None:
    commands = []
    for name in names:
        folder = _at(root, str(PurePosixPath(name).parent))
        folder.mkdir(parents=True, exist_ok=True)
        commands.append(f'rdump "{name}" "{folder}"')
    done = run(["debugfs", "-f", "-", file_system], stdin="\n".join(commands) + "\n", check=False)
    if done.code or "while opening" in done.stderr or "Bad magic" in done.stderr:
        raise HpcstateError(f"debugfs cannot read the image:\n{tail(done.stderr, 3)}")


def _needs(root: Path, name: str) -> Iterator[str]:
    """The paths that the file or folder ``name`` needs: targets of links, libraries of programs."""
    top = _at(root, name)
    for path in [top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ())]:
        if path.is_symlink():
            yield _merged(os.path.normpath(f"/{path.parent.relative_to(root)}" / path.readlink()))
        elif path.is_file():
            yield from (f"{_LIBRARIES}/{library}" for library in needed_libraries(path.read_bytes()))


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _merged(path: str) -> str:
    return f"/usr{path}" if path.split("/")[1] in _MERGED else path


def needed_libraries(data: bytes) -> list[str]:
    """The names of the libraries that a 64-bit ELF file asks its loader for; none for any other file.

    The structures are those of elf(5): program headers, the dynamic section, its string table.
    """
    if data[:5] != b"\x7fELF\x02" or len(data) < 64:
        return []
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count)]
    loads = [(address, offset, length) for kind, _, offset, address, _, length in headers if kind == _PT_LOAD]
    dynamic = next(
        ((offset, length) for kind, _, offset, _, _, length in headers if kind == _PT_DYNAMIC), (0, 0)
    )
    entries = [struct.unpack_from("<qQ", data, dynamic[0] + at) for at in range(0, dynamic[1], 16)]
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    base = next(
        (strings - start + offset for start, offset, size in loads if start <= strings < start + size), 0
    )
    return [_text(data, base + value) for tag, value in entries if tag == _DT_NEEDED]


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("ascii", errors="replace")
