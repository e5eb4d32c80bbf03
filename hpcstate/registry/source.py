"""What is to be deployed: containers that were built here by name, and .sif files of anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.store import Manifest
from hpcstate.categories import DEFAULT_CATEGORY, Category
from hpcstate.container import declared as container
from hpcstate.container import sif
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, from_os
from hpcstate.model import ContainerSettings
from hpcstate.model.container import NAME, VERSION
from hpcstate.registry.layout import Stored

UNVERSIONED = "local"
"""The version of a file for which nobody named one."""


@dataclass(frozen=True)
class LocalFile:
    """A local file and what it will be in the registry, but for the time and the nodes."""

    stored: Stored
    path: Path


def built(name: str) -> LocalFile:
    """The container ``name`` as it was built here. Its digest is that of its sidecar; :func:`demand_whole`
    compares.

    Raises HpcstateError when there is no such container or it was not built.
    """
    declared = container.load(name)
    path = paths.container(name)
    manifest = Manifest.read(paths.sidecar(path))
    if manifest is None or not path.is_file():
        raise HpcstateError(
            f"the container {name!r} has not been built",
            where=paths.shown(path),
            hint=f"hpcstate container build {name}",
        )
    stored = Stored(name, declared.category, declared.version, manifest.digest, manifest.size, False, "")
    return LocalFile(stored, path)


def of_file(
    path: Path, *, name: str = "", version: str = "", category: Category = DEFAULT_CATEGORY
) -> LocalFile:
    """The .sif file ``path``, called ``name`` in the registry (by default what the file is called).

    Raises HpcstateError when it is no whole SIF file, or its name cannot be one of the registry.
    """
    header = sif.read(path)
    del header  # that it can be read is what counts
    name = name or path.name.removesuffix(".sif")
    for word, pattern, option in ((name, NAME, "--as"), (version or UNVERSIONED, VERSION, "--version")):
        if not pattern.fullmatch(word):
            raise HpcstateError(
                f"{word!r} is no name for the registry ({pattern.pattern})",
                where=str(path),
                hint=f"{option} gives another one",
            )
    try:
        size, digest = path.stat().st_size, file_digest(path)
    except OSError as error:
        raise from_os(error) from error
    return LocalFile(Stored(name, category, version or UNVERSIONED, digest, size, False, ""), path)


def chosen(word: str, *, name: str = "", version: str = "", category: Category | None = None) -> LocalFile:
    """What a user named on the command line: a file when it ends with ``.sif`` or is a path, else a container
    of the project. Raises as :func:`built` and :func:`of_file` do.
    """
    if word.endswith(".sif") or "/" in word:
        return of_file(Path(word), name=name, version=version, category=category or DEFAULT_CATEGORY)
    if name or version or category:
        raise HpcstateError(
            "--as, --version and --category are for files: a container's are in its container.yaml",
            where=word,
        )
    return built(word)


def demand_whole(source: LocalFile, settings: ContainerSettings) -> None:
    """Refuse a file before anything of it is sent: cut off, other bytes than its sidecar says, or without a
    good signature where the policy wants one. Raises HpcstateError.
    """
    header = sif.read(source.path)
    where = paths.shown(source.path)
    try:
        digest = file_digest(source.path)
    except OSError as error:
        raise from_os(error) from error
    if digest != source.stored.digest:
        raise HpcstateError(
            "the file is not the one that was built: its digest is another than in its sidecar",
            where=where,
            hint="build it again",
        )
    if not settings.require_signature:
        return
    from hpcstate.artifact.store import Store
    from hpcstate.container import signing
    from hpcstate.container.toolbox import runner

    policy = "`containers.require_signature` of the cluster file asks for the project's signature"
    if not header.signed:
        raise HpcstateError("the file is not signed", where=where, hint=policy)
    if why := signing.verified(runner(Store.default()), source.path):
        raise HpcstateError(f"its signature does not hold: {why}", where=where, hint=policy)
