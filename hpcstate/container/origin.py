"""What a stage of a definition starts from: the name of an image of a registry, or an image beside it, by the
rules of Apptainer 1.4.5 (internal/pkg/build/sources, internal/pkg/ociimage).
"""

from __future__ import annotations

import re
from pathlib import Path

from hpcstate.container import architecture, archive, deffile, sif
from hpcstate.errors import HpcstateError, Problem, from_os

BESIDE = frozenset({"docker-archive", "localimage", "oci", "oci-archive"})
"""Bootstraps that start from a file or a folder."""

FETCHED = frozenset({"docker", "oras"})
"""Those that fetch an image by its name."""

COPY = "only what lies in the container's folder goes in: copy it there"


def problems(number: int, stage: deffile.DefinitionStage, folder: Path) -> list[Problem]:
    """What is wrong with the ``From`` in the line ``number`` of ``stage``, whose files are in ``folder``."""
    value, agent = stage.of("from"), stage.of("bootstrap")
    if value.endswith("\\"):
        return []
    if not value:
        return [] if agent == "scratch" else [Problem(number, "From", "it names no image")]
    if agent in BESIDE:
        name, image = beside(agent, value)
        file = folder / name
        if not inside(file, folder):
            return [Problem(number, "From", f"{value} leads out of the folder", COPY)]
        if not file.exists():
            return [Problem(number, "From", f"there is no {value} beside it")]
        return _unfit(number, file, agent, image)
    if agent in FETCHED:
        return _reference(number, stage)
    return []


_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]+)?")
_NAME = re.compile(r"[a-z0-9_./-]+(:[A-Za-z0-9_.-]{0,128})?(@sha256:[0-9a-f]{64})?")
"""An image behind its registry, by the reader that Apptainer has (go-containerregistry, pkg/name)."""


def _reference(number: int, stage: deffile.DefinitionStage) -> list[Problem]:
    """What is wrong with the name of an image of a registry: Apptainer says it when the stages before are
    built.
    """
    for key in ("registry", "namespace", "from"):
        scheme, address, rest = stage.of(key).partition("://")
        if address:
            message = f"Apptainer takes {scheme!r} for the name of a registry"
            hint = f"{key.capitalize()}: {rest}"
            return [Problem(stage.header[key][0], key.capitalize(), message, hint)]
    first, slash, rest = stage.image.partition("/")
    host = slash and ("." in first or ":" in first or first == "localhost")
    if _NAME.fullmatch(rest if host else stage.image) and (not host or _HOST.fullmatch(first)):
        return []
    value = stage.of("from")
    hint = "it is [REGISTRY/]NAME[:TAG][@sha256:…], the digest with 64 digits"
    if re.search(r"\sas\s", value, re.IGNORECASE):
        hint = "a stage is named by a line of its own: `Stage: NAME`"
    elif value != value.strip("\"'"):
        hint = "write it without quotes"
    elif "$" in value:
        hint = "{{ NAME }} and %arguments are for values; Apptainer knows no variables here"
    elif value != value.lower():
        hint = "the names of images have small letters only"
    return [Problem(number, "From", f"{value} is no name of an image", hint)]


def beside(agent: str, origin: str) -> tuple[str, str]:
    """The file or folder that the ``From`` of the bootstrap ``agent`` names, and the image in it, by its name
    or its digest (empty: its only one).
    """
    if agent == "localimage":
        return origin, ""
    if agent == "oci" and "@" in origin:
        folder, _, digest = origin.rpartition("@")
        return folder, digest
    file, _, image = origin.partition(":")
    return file, image


def _unfit(number: int, file: Path, agent: str, image: str) -> list[Problem]:
    """Why the image ``file`` does not serve; one of another architecture Apptainer would take."""
    try:
        if agent == "localimage":
            return _no_local_image(number, file)
        if file.is_dir() != (agent == "oci"):
            kind, other = (
                ("a folder", "oci") if file.is_dir() else ("a file", "oci-archive, or docker-archive")
            )
            return [Problem(number, "From", f"{file.name} is {kind}, none of {agent}", f"Bootstrap: {other}")]
        archive.demand_one(file, image)
        archive.config(file, image)
        if agent == "oci-archive" and not archive.has_layout(file):
            message = f"{file.name} is a docker-archive"
            return [Problem(number, "From", message, "Bootstrap: docker-archive")]
    except HpcstateError as error:
        return [Problem(number, "From", f"{file.name}: {error.message}", error.hint)]
    return []


def _no_local_image(number: int, file: Path) -> list[Problem]:
    """Why ``file`` is none that Apptainer knows by its first bytes (pkg/image: sif, squashfs, ext3)."""
    if file.is_dir():
        return []
    try:
        with file.open("rb") as stream:
            start = stream.read(1082)
    except OSError as error:
        raise from_os(error) from error
    if sif.MAGIC in start[:64]:
        architecture.demand(sif.read(file).architecture, file.name)
        return []
    launched = start.partition(b"\n")[2] if start.startswith(b"#!") else start
    if b"hsqs" in (start[:4], launched[:4]) or start[1080:1082] == b"\x53\xef":
        return []
    hint = "take a .sif, or the folder of a sandbox; an archive is of docker-archive or oci-archive"
    if start.startswith(b"version https://git-lfs"):
        hint = "git lfs pull fetches the file that stands for"
    return [Problem(number, "From", f"{file.name} is no image that Apptainer knows", hint)]


def inside(file: Path, folder: Path) -> bool:
    """Whether ``file`` lies in ``folder``, also where its links lead."""
    return file.resolve().is_relative_to(folder.resolve())
