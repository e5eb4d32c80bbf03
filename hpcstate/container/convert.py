"""A .sif of an image or archive that somebody else built."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import remove_tree

if TYPE_CHECKING:
    from hpcstate.artifact.store import Manifest
    from hpcstate.container.routes import SeesPaths, Source
    from hpcstate.terminal import Say

_REGISTRIES = ("docker", "oras", "library")
_ARCHIVES = ("docker-archive", "oci-archive", "oci")
FORMS = (
    "docker-archive:FILE[:NAME], oci-archive:FILE[:NAME], oci:DIR[:NAME], docker-daemon:NAME, docker://NAME,"
    " oras://NAME, library://NAME, or an archive FILE"
)
"""How the source of a conversion is written."""


def refuse(target: Path, force: bool) -> None:
    """Raises HpcstateError when ``target`` should not be written."""
    if target.suffix != ".sif":
        raise HpcstateError("the name of what is written ends in .sif", where=str(target))
    if target.is_dir():
        raise HpcstateError("this is a folder", where=str(target))
    if target.exists() and not force:
        raise HpcstateError("this file exists", where=str(target), hint="--force replaces it")
    if not target.parent.is_dir():
        raise HpcstateError("there is no such folder", where=str(target.parent))


def convert(address: str, target: Path, toolbox: Any, report: Say = print) -> Manifest:
    """Make the .sif ``target`` of ``address`` and its sidecar; an earlier one stays until it is whole.
    ``toolbox`` is the hpcstate.container.toolbox.Toolbox.

    Raises HpcstateError when there is no such image or it cannot be fetched, with the last lines of what
    failed, and when the disk is full. Nothing half done stays.
    """
    from hpcstate.artifact.recipe import Recipe
    from hpcstate.container import build, routes, trial
    from hpcstate.digest import key_of

    began = time.monotonic()
    aside = target.absolute().parent
    try:
        work = Path(tempfile.mkdtemp(dir=aside, prefix=f".{target.name}."))
        made = work / "made"
        made.mkdir()
    except OSError as error:
        raise from_os(error) from error
    try:
        source = find(address, work, toolbox, report)
        of = inputs(address, source.versions)

        def make(file: Path) -> dict[str, str]:
            definition = routes.whole(source, labels(address, key_of(of)))
            build.write(definition, source, file, made, toolbox, report=report)
            if address.partition(":")[0] in _REGISTRIES:
                trial.demand_architecture(file, toolbox, address)
            return {**source.versions, "apptainer": toolbox.versions.get("apptainer", "")}

        return Recipe(target, of, make, keep=False).write(made, began)
    except OSError as error:
        raise from_os(error) from error
    finally:
        remove_tree(work)


def inputs(address: str, versions: dict[str, str]) -> dict[str, Any]:
    """What is made of ``address``, where ``versions`` were found, for its key."""
    from hpcstate.artifact.imports import code_of
    from hpcstate.container import build
    from hpcstate.container import toolbox as tools_root

    return {
        "code": code_of("hpcstate.container.convert"),
        "tools": tools_root.key(),
        "squash": list(build.SQUASH),
        # Where an archive lies says nothing of what is in it; its digest does.
        "image": image(address),
        "versions": versions,
    }


def find(address: str, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    """What ``address`` names. A file's sha256 is among the versions.

    Raises HpcstateError when it names nothing, and when the image is not there.
    """
    from hpcstate.container import routes

    demand(address)
    transport, _, rest = address.partition(":")
    if transport in _REGISTRIES:
        return routes.of_registry(address, toolbox)
    if transport == "docker-daemon":
        return _of_daemon(rest.removeprefix("//"), work, toolbox, report)
    if transport in _ARCHIVES:
        file, _, name = rest.partition(":")
        return _of_file(Path(file), name, work, toolbox, transport)
    return _of_file(Path(address), "", work, toolbox, "")


def demand(address: str) -> None:
    """Raises HpcstateError when ``address`` names nothing, as far as that is known without fetching: what
    converts takes minutes to make where it is not there yet.
    """
    from hpcstate.container import engine as container_engine

    transport, _, rest = address.partition(":")
    if transport in _REGISTRIES and rest.startswith("//") and len(rest) > 2:
        return
    if transport == "docker-daemon" and rest:
        if not container_engine.docker_version():
            raise HpcstateError(
                "no Docker engine answers on this machine",
                hint="on the machine that has the image: docker save NAME -o FILE; then convert the FILE",
            )
        return
    if transport in _ARCHIVES and rest:
        file = Path(rest.partition(":")[0])
        if not (file.is_dir() if transport == "oci" else file.is_file()):
            kind = "folder" if transport == "oci" else "file"
            raise HpcstateError(f"there is no such {kind}", where=str(file))
        return
    if Path(address).is_file():
        return
    looks_like_a_file = address.endswith((".tar", ".gz", ".xz", ".zst")) or "/" in address[:2]
    raise HpcstateError(
        "there is no such file" if looks_like_a_file else f"{address!r} does not say where the image is",
        where=address if looks_like_a_file else "",
        hint=f"{FORMS}; an image of this machine's Docker is docker-daemon:{address}",
    )


def labels(address: str, key: str) -> dict[str, str]:
    """The labels of what is made of ``address``; those of the image itself stay beside them."""
    from hpcstate.container.build import BUILD_DATE

    return {
        "org.label-schema.build-date": BUILD_DATE,
        "hpcstate.source": image(address),
        "hpcstate.key": key,
    }


def image(address: str) -> str:
    """``address`` without the folders of this machine."""
    transport, _, rest = address.partition(":")
    if transport in (*_REGISTRIES, "docker-daemon"):
        return address
    return Path(rest if transport in _ARCHIVES else address).name


def _of_file(file: Path, name: str, work: Path, toolbox: SeesPaths, expected: str) -> Source:
    from hpcstate.container import archive, routes

    kind = archive.kind(archive.packed(file, work))
    if expected not in ("", "oci", kind):
        raise HpcstateError(
            f"this is no {expected} but of the kind {kind}", where=str(file), hint=f"{kind}:{file}"
        )
    plain = archive.readable(file, name, work)
    versions = {f"archive:{file.name}": f"sha256:{archive.digest(file)}"}
    return routes.of_archive(kind, plain.absolute(), toolbox, versions=versions)


def _of_daemon(name: str, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    from hpcstate.container import engine as container_engine
    from hpcstate.container import routes

    version = container_engine.docker_version()
    engine = container_engine.Engine("docker", version)
    archive = work / "image.tar"
    container_engine.save(engine, name, archive, report)
    versions = {"docker": version, f"image:{name}": container_engine.identity(engine, name)}
    return routes.of_archive("docker-archive", archive, toolbox, versions=versions)
