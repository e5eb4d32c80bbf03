"""A definition of the user's own (``container.def``): checked before anything is built, and made to find the
files of its folder wherever Apptainer runs.

The language: Apptainer's user guide, "Definition Files". The parser of spython 0.3.14 does not serve here: it
keeps no line numbers, refuses every bootstrap but Docker's, and takes an unknown section for a comment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcstate import paths
from hpcstate.container_credentials import host_of, registry_of
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, Problem, ProblemsError

AGENTS = frozenset(
    {"docker", "docker-archive", "docker-daemon", "library", "localimage", "oci", "oci-archive", "oras"}
    | {"scratch", "shub", "arch", "busybox", "debootstrap", "dnf", "yum", "zypper"}
)
SECTIONS = frozenset(
    {"appenv", "appfiles", "apphelp", "appinstall", "applabels", "apprun", "appstart", "apptest", "arguments"}
    | {"environment", "files", "help", "labels", "post", "runscript", "startscript", "test"}
)
ON_THE_HOST = frozenset({"pre", "setup"})
"""What Apptainer runs outside the container, with the rights of whoever builds."""

_WITHOUT_IMAGE = frozenset({"scratch", "arch", "busybox", "debootstrap", "dnf", "yum", "zypper"})
_LOCAL = frozenset({"docker-archive", "localimage", "oci", "oci-archive"})
_FETCHED = frozenset({"docker", "oras"})
_HEADER = re.compile(r"^\s*([A-Za-z]\w*)\s*:\s*(.*?)\s*$")
_SECTION = re.compile(r"^\s*%(\S*)\s*(.*?)\s*$")


def checked(path: Path, own: str) -> str:
    """The definition ``path``, its relative host files made absolute below ``own``, the place where Apptainer
    sees the folder of ``path``.

    Raises HpcstateError when it cannot be read, and ProblemsError with what is wrong in it and where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HpcstateError(f"cannot be read: {error}", where=paths.shown(path)) from error
    lines = text.splitlines()
    if problems := check(lines, path.parent):
        raise ProblemsError(paths.shown(path), tuple(problems))
    return "\n".join(located(lines, path.parent, own)) + "\n"


def bases(path: Path) -> dict[str, str]:
    """What the definition ``path`` starts from, each stage: ``base:`` and its ``From`` to the digest of that:
    the one it is pinned to, that of a file beside it, or "not pinned". :func:`checked` has found it sound.
    """
    found: dict[str, str] = {}
    agent = ""
    for _, _, _, key, value in _scanned(path.read_text(encoding="utf-8").splitlines()):
        if key == "bootstrap":
            agent = value
        elif key == "from":
            image, _, pinned = value.partition("@")
            file = path.parent / value.partition(":")[0]
            if not pinned and agent in _LOCAL and file.is_file():
                pinned = f"sha256:{file_digest(file)}"
            # A label has no blanks in its name; `{{ variable }}` may.
            found[f"base:{''.join(image.split())}"] = pinned or "not pinned"
    return found


def registries(lines: Sequence[str]) -> set[str]:
    """The registries of images (host and port) that the definition ``lines`` fetches from."""
    stages: list[dict[str, str]] = []
    for _, _, _, key, value in _scanned(lines):
        if key == "bootstrap":
            stages.append({})
        if key in ("bootstrap", "from", "registry") and stages:
            stages[-1][key] = value.partition("://")[2] or value
    return {
        host_of(stage["registry"]) if "registry" in stage else registry_of(stage.get("from", ""))
        for stage in stages
        if stage["bootstrap"] in _FETCHED
    }


def check(lines: Sequence[str], folder: Path) -> list[Problem]:
    """What is wrong in the definition ``lines``; ``folder`` is where its files are."""
    found: list[Problem] = []
    agents: list[tuple[int, str]] = []
    origins = 0
    for number, line, part, key, value in _scanned(lines):
        if key.startswith("%"):
            found += _section(number, key.removeprefix("%"), value)
        elif key == "bootstrap":
            agents.append((number, value))
            if value not in AGENTS:
                message = f"there is no bootstrap {value!r}"
                found.append(Problem(number, "Bootstrap", message, f"there are: {_list(AGENTS)}"))
        elif key == "from":
            origins += 1
            found += _origin(number, value, agents[-1][1] if agents else "", folder)
        elif not key and not part and line.strip() and not line.lstrip().startswith("#"):
            found.append(Problem(number, "header", f"no `Key: value`: {line.strip()[:60]!r}"))
        elif part == "files":
            found += _files(number, line, folder)
    if not agents:
        found.append(
            Problem(1, "Bootstrap", "the header says not where to start", "Bootstrap: docker and From: IMAGE")
        )
    if agents and not origins and agents[0][1] in AGENTS - _WITHOUT_IMAGE:
        found.append(Problem(agents[0][0], "From", "the header does not say which image"))
    return found


def located(lines: Sequence[str], folder: Path, own: str) -> list[str]:
    """``lines`` with the host files that they name relative to ``folder`` below ``own``."""
    made: list[str] = []
    agent = ""
    for _, line, part, key, value in _scanned(lines):
        if key == "bootstrap":
            agent = value
        if key == "from" and agent in _LOCAL and not value.startswith("/"):
            made.append(f"From: {own}/{value}")
        elif part == "files" and not key and (source := _source(line)) and not source.startswith("/"):
            made.append(line.replace(source, f"{own}/{source}", 1))
        else:
            made.append(line)
    return made


def _scanned(lines: Sequence[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """Each line with its number, the section that it is in (empty: the header), and of the start of a section
    (``%post``) or a line of the header (``from``) the key and the value. A further `Bootstrap:` begins the
    next stage; files from a stage are not the host's.
    """
    section = ""
    for number, line in enumerate(lines, 1):
        key, value = "", ""
        if entered := _SECTION.match(line):
            section, value = entered[1].lower(), entered[2]
            key = f"%{section}"
            if section == "files" and value.split()[:1] == ["from"]:
                section = "files from a stage"
        elif (header := _HEADER.match(line)) and (not section or header[1].lower() == "bootstrap"):
            section, key, value = "", header[1].lower(), header[2]
        yield number, line, section, key, value


def _section(number: int, name: str, words: str) -> list[Problem]:
    if name in ON_THE_HOST:
        hint = "use %files for files, and %post for commands inside the container"
        message = "its commands run on this machine, outside the container"
        return [Problem(number, f"%{name}", message, hint)]
    if name not in SECTIONS:
        return [Problem(number, f"%{name}", "there is no such section", f"there are: {_list(SECTIONS)}")]
    if name.startswith("app") and not words:
        return [Problem(number, f"%{name}", "it says not of which app", f"%{name} NAME")]
    return []


def _origin(number: int, value: str, agent: str, folder: Path) -> list[Problem]:
    if not value:
        return [Problem(number, "From", "it names no image")]
    if agent in _LOCAL and "{{" not in value and not value.startswith("/"):
        file = folder / value.partition(":")[0]
        if not file.exists():
            return [Problem(number, "From", f"there is no {value} beside it")]
    return []


def _files(number: int, line: str, folder: Path) -> list[Problem]:
    try:
        source = _source(line)
    except ValueError as error:
        return [Problem(number, "%files", f"its quotes do not match: {error}")]
    if not source or source.startswith("/") or "{{" in source:
        return []
    if source not in line:
        return [Problem(number, "%files", f"write {source!r} in quotes, not with backslashes")]
    if ".." in Path(source).parts:
        return [Problem(number, "%files", f"{source} leads out of the folder", "copy it into the folder")]
    if not any(folder.glob(source)):
        return [Problem(number, "%files", f"there is no {source} beside it")]
    return []


def _source(line: str) -> str:
    """The host's file of a line of %files; empty where it names none. Raises ValueError for open quotes."""
    words = shlex.split(line, comments=True)
    return words[0] if words else ""


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
