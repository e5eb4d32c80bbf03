"""The routes to a container besides the declared one: a Dockerfile, a definition, an image that others built.

Each ends in a :class:`Source`: an Apptainer definition, from which ``apptainer build`` goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpcstate import paths
from hpcstate.container import declared
from hpcstate.errors import HpcstateError
from hpcstate.model.container import Container
from hpcstate.terminal import Say

CACHE = paths.BUILD / "containers" / ".cache"
"""Layers that Apptainer fetched, by digest: a build that ended early does not fetch them again."""

_ARCHIVE, _OWN, _CACHE = "/archive", "/container", "/cache"


class SeesPaths(Protocol):
    """Where Apptainer runs, as far as a route asks; hpcstate.container.toolbox.Toolbox is one."""

    def at(self, path: Path, binds: Mapping[Path, str]) -> str:
        """How Apptainer sees ``path``, which lies at or below one of ``binds`` (host path to its place)."""
        ...


@dataclass(frozen=True)
class Source:
    """What ``apptainer build`` starts from.

    ``definition`` is the text of an Apptainer definition; Apptainer appends a section that comes twice, so
    that more may be added at its end (:func:`whole`). ``binds`` are the host paths that it names and where it
    names them, ``environment`` the variables that Apptainer needs for it. ``labels`` and ``versions`` say
    what went in. ``runscript`` are the commands of ``apptainer run`` where Apptainer's own would not do what
    the image says. ``variables`` is the ENV of an image, ``NAME=VALUE`` each (None: not known before the
    build), ``folder`` its WORKDIR; ``file`` the definition as the
    user wrote it. ``hint`` is the next step where Apptainer fails.
    """

    definition: str
    binds: Mapping[Path, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    runscript: str = ""
    variables: tuple[str, ...] | None = None
    folder: str = ""
    file: Path | None = None
    hint: str = ""


def source(chosen: Container, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    """What the .sif of ``chosen``, which is not of the declared route, is built from. ``work`` is an empty
    folder on a disk with room for it, removed by the caller.

    Raises HpcstateError when the container's file is wrong, when what builds it is not there, and with the
    failing step and its last lines when a step fails.
    """
    routes: Mapping[str, Callable[[Container, Path, SeesPaths, Say], Source]] = {
        "dockerfile": dockerfile,
        "definition": definition,
        "converted": converted,
    }
    return routes[chosen.route](chosen, work, toolbox, report)


def dockerfile(chosen: Container, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    """The Dockerfile of ``chosen``, built by Docker or buildah. Raises as :func:`source` does."""
    from hpcstate.container import archive as container_archive
    from hpcstate.container import engine as container_engine
    from hpcstate.container import order as container_order

    engine = container_engine.find()
    with container_order.secret_files(chosen.secrets, work) as secrets:
        order = container_order.order(
            chosen,
            engine.name,
            engine.version,
            buildkit=container_engine.buildkit(engine),
            secrets=secrets,
        )
        built = container_engine.build(engine, chosen.name, chosen.version, order, report)
    archive = work / "image.tar"
    container_engine.save(engine, built.tag, archive, report)
    kind = container_archive.kind(archive)
    return of_archive(kind, archive, toolbox, labels=built.labels, versions=built.versions)


def definition(chosen: Container, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    """The definition of ``chosen``, checked. Raises as :func:`source` does."""
    from hpcstate.container import archive as container_archive
    from hpcstate.container import definition as container_definition
    from hpcstate.container import origin

    at = declared.folder(chosen.name)
    binds = {at: _OWN}
    file = at / chosen.file
    given = dict(chosen.arguments)
    moved: dict[str, str] = {}
    for number, agent, name in container_definition.local(file, given):
        own, image = origin.beside(agent, name)
        if agent == "oci" and image and (at / own).is_dir():
            moved[name] = f"{toolbox.at(at / own, binds)}@{container_archive.digest_of(at / own, image)}"
        if agent not in ("docker-archive", "oci-archive") or not (at / own).is_file():
            continue
        aside = work / f"unpacked-{number}"
        aside.mkdir()
        plain = container_archive.readable(at / own, image, aside)
        if plain != at / own or image:
            binds[plain] = f"{_ARCHIVE}/{number}.tar"
            moved[name] = toolbox.at(plain, binds)
    text = container_definition.checked(file, toolbox.at(at, binds), given, moved, at)
    return Source(
        text,
        {**binds, **network(), **_cache()},
        _cache_variable(toolbox),
        versions=container_definition.bases(file, given, at),
        file=file,
        hint="nothing half built stays; a definition is built anew from its start",
    )


def converted(chosen: Container, work: Path, toolbox: SeesPaths, report: Say) -> Source:
    """``base.image`` or ``base.archive`` of ``chosen``. Raises as :func:`source` does."""
    from hpcstate.container import archive as container_archive

    if chosen.image:
        return of_registry(chosen.image, toolbox)
    file = declared.folder(chosen.name) / chosen.archive
    plain = container_archive.readable(file, "", work)
    versions = {f"archive:{file.name}": f"sha256:{container_archive.digest(file)}"}
    return of_archive(container_archive.kind(plain), plain, toolbox, versions=versions)


def of_archive(
    transport: str,
    file: Path,
    toolbox: SeesPaths,
    *,
    labels: Mapping[str, str] | None = None,
    versions: dict[str, str] | None = None,
) -> Source:
    """The only image in ``file``, a ``docker-archive`` or ``oci-archive``."""
    from hpcstate.container import archive as container_archive

    # The file alone: what lies beside it is nothing that Apptainer needs to see.
    binds = {file.resolve(): f"{_ARCHIVE}/{file.name}"}
    config = container_archive.config(file)
    return Source(
        _header(transport, toolbox.at(file.resolve(), binds)),
        {**binds, **_cache()},
        _cache_variable(toolbox),
        labels or {},
        versions or {},
        config.runscript(),
        config.environment,
        config.folder,
        hint="is the archive whole? `tar -tf` lists it",
    )


def of_registry(address: str, toolbox: SeesPaths) -> Source:
    """The image at ``address`` (``docker://…``, ``oras://…`` or ``library://…``)."""
    from hpcstate.container import deffile

    transport, _, rest = address.partition("://")
    # Apptainer's library names a digest `:sha256.…` (apptainer-pull(1)).
    origin = rest.replace("@sha256:", ":sha256.") if transport == "library" else rest
    digest = rest.partition("@")[2]
    versions = {f"base:{rest.partition('@')[0]}": digest} if digest else {}
    library = f"Library: {deffile.SYLABS}\n" if transport == "library" else ""
    return Source(
        _header(transport, origin) + library,
        {**network(), **_cache()},
        _cache_variable(toolbox),
        {"org.opencontainers.image.base.name": rest, **_digest_label(digest)},
        versions,
        hint=f"is the registry reachable, and does it have {rest}? what was fetched is kept",
    )


def whole(
    of: Source,
    labels: Mapping[str, str],
    environment: Sequence[tuple[str, str]] = (),
    entry_point: Sequence[str] = (),
) -> str:
    """The definition of ``of`` with what container.yaml says; what that leaves out stays."""
    from hpcstate.container import deffile

    # Apptainer would run that of the definition first, and what stands in container.yaml never.
    own = deffile.without(of.definition, "runscript") if entry_point else of.definition
    parts = [own.rstrip("\n") + "\n"]
    if every := {**of.labels, **labels}:
        parts.append(_section("labels", [f"{name} {value}" for name, value in every.items()]))
    if environment:
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environment]
        parts.append(_section("environment", lines))
    runscript = f'exec {shlex.join(entry_point)} "$@"' if entry_point else of.runscript
    if runscript:
        parts.append(_section("runscript", runscript.splitlines()))
    return "\n".join(parts)


def labels_of(definition: str) -> dict[str, str]:
    """The labels that the definition ``definition``, made by :func:`whole`, adds at its end."""
    _, _, section = definition.rpartition("\n%labels\n")
    lines = (line.strip().partition(" ") for line in section.partition("\n\n")[0].splitlines())
    return {name: value for name, _, value in lines if name}


def network() -> dict[Path, str]:
    """What a program in another root needs of this one to reach a registry: names and authorities."""
    files = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
    return {Path(name).resolve(): name for name in files if Path(name).is_file()}


def _header(bootstrap: str, origin: str) -> str:
    if any(character in origin for character in "\n\r"):
        raise HpcstateError("a name with a line break is none", where=repr(origin))
    return f"Bootstrap: {bootstrap}\nFrom: {origin}\n"


def _section(name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"%{name}", *(f"    {line}" for line in lines)]) + "\n"


def _digest_label(digest: str) -> dict[str, str]:
    return {"org.opencontainers.image.base.digest": digest} if digest else {}


def _cache() -> dict[Path, str]:
    CACHE.mkdir(parents=True, exist_ok=True)
    return {CACHE: _CACHE}


def _cache_variable(toolbox: SeesPaths) -> dict[str, str]:
    return {"APPTAINER_CACHEDIR": toolbox.at(CACHE, {CACHE: _CACHE})}
