"""What lies in the registry of containers of a node.

A .sif may have hundreds of megabytes, and hashing one takes a slow virtual machine many seconds. So the
digest that was recorded when the file was verified (``.registry/digests``) is taken as long as size, inode
and time of change are those of the record; any other file, or with ``rehash`` every file, is hashed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.model.container import REGISTRY

_META = ".registry"


class RegistryFolder(TypedDict):
    """``mode`` is octal (``755``), ``owner`` ``user:group``."""

    mode: str
    owner: str


class RegistryFile(TypedDict):
    """A .sif. ``size`` is in bytes, ``sha256`` hexadecimal; ``hashed`` says that it was hashed for this
    answer, and not taken from the record of its verification."""

    mode: str
    owner: str
    size: int
    sha256: str
    hashed: bool


class RegistryState(TypedDict):
    """Paths are below the registry, which is itself the folder ``""``.

    ``node`` is the short name of the host, by which a Slurm node is known (slurm.conf(5), NodeName).
    ``links`` are symbolic links with their targets. ``others`` are whatever else lies in the folders of
    containers. ``incoming`` are the bytes there are of files on their way. ``catalog`` and ``config`` are
    contents, empty where the file is missing or empty.
    """

    node: str
    folders: dict[str, RegistryFolder]
    files: dict[str, RegistryFile]
    links: dict[str, str]
    others: list[str]
    incoming: dict[str, int]
    catalog: str
    config: str


def command(root: str = REGISTRY, *, rehash: bool = False) -> str:
    """The program registry.sh for the registry at ``root``; with ``rehash`` no recorded digest is trusted."""
    return programs.command(Path(__file__).with_name("registry.sh"), top=root, rehash="yes" if rehash else "")


def parse(text: str) -> RegistryState:
    """What ``command`` printed; no folder at all for no text.

    Raises HpcstateError for a line that it does not print, and for a file without a digest.
    """
    state = RegistryState(
        node="", folders={}, files={}, links={}, others=[], incoming={}, catalog="", config=""
    )
    records: dict[str, str] = {}
    sums: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        try:
            if kind == "node":
                state["node"] = rest
            elif kind == "entry":
                _entry(state, keys, rest)
            elif kind == "odd":
                state["others"].append(f"{rest.rpartition('/')[2]}/?")
            elif kind == "incoming":
                *_, size, _, _, name = rest.partition("\t")[0].split(" ", 6)
                state["incoming"][name] = int(size)
            elif kind == "record":
                records[rest[65:]] = rest[:64]
            elif kind == "sum":
                digest, _, path = rest.partition("  - ")
                sums[path] = digest
            elif kind in ("catalog", "config"):
                state[kind] += f"{rest}\n"  # type: ignore[literal-required]
            elif line:
                raise ValueError
        except ValueError as error:
            raise HpcstateError(f"this is nothing about a registry: {line!r}") from error
    for path, found in state["files"].items():
        found["hashed"] = path in sums
        found["sha256"] = sums.get(path) or records.get(keys[path], "")
        if len(found["sha256"]) != 64:
            raise HpcstateError("the digest of this file is missing", where=path)
    return state


def _entry(state: RegistryState, keys: dict[str, str], rest: str) -> None:
    words, _, target = rest.partition("\t")
    kind, mode, owner, size, inode, time, path = words.split(" ", 6)
    folder, _, name = path.rpartition("/")
    if kind == "d" and not folder:
        state["folders"][path] = RegistryFolder(mode=mode, owner=owner)
    elif folder == _META:
        if kind == "d":
            state["folders"][path] = RegistryFolder(mode=mode, owner=owner)
    elif kind == "l":
        state["links"][path] = target
    elif kind == "f" and folder and name.endswith(".sif"):
        state["files"][path] = RegistryFile(mode=mode, owner=owner, size=int(size), sha256="", hashed=False)
        keys[path] = f"{size} {inode} {time} {path}"
    else:
        state["others"].append(path)
