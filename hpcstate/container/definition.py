"""A definition of the user's own (``container.def``): checked before anything is built, and made to find the
files of its folder wherever Apptainer runs.

The language: Apptainer's user guide, "Definition Files". The parser of spython 0.3.14 does not serve here: it
keeps no line numbers, refuses every bootstrap but Docker's, and takes an unknown section for a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcstate import paths
from hpcstate.container import template
from hpcstate.container.credentials import host_of, registry_of
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, Problem, ProblemsError

AGENTS = frozenset(
    {"docker", "docker-archive", "docker-daemon", "library", "localimage", "oci", "oci-archive", "oras"}
    | {"scratch", "shub"}
)
INSTALLERS = frozenset({"arch", "busybox", "debootstrap", "dnf", "yum", "zypper"})
"""They run programs outside the container: what they fetched (busybox), or a package manager."""
SECTIONS = frozenset(
    {"appenv", "appfiles", "apphelp", "appinstall", "applabels", "apprun", "appstart", "apptest", "arguments"}
    | {"environment", "files", "help", "labels", "post", "runscript", "startscript", "test"}
)
ON_THE_HOST = frozenset({"pre", "setup"})
"""What Apptainer runs outside the container, with the rights of whoever builds."""

_LOCAL = frozenset({"docker-archive", "localimage", "oci", "oci-archive"})
_FETCHED = frozenset({"docker", "oras"})
_HEADER = re.compile(r"^\s*([A-Za-z]\w*)\s*:\s*([^#]*?)\s*(#.*)?$")
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE)
_SECTION = re.compile(r"^\s*%(\S*)\s*(.*?)\s*$")
_SOURCE = re.compile(r'^\s*(?:"([^"]*)"|([^\s"\']+))(?=\s|$)')
"""The host's file of a line of %files, in quotes or without blanks."""
_READ_BY_A_SHELL = re.compile(r"[^\w\s./*?\[\]@%+=:,-]")
"""Apptainer expands names as a shell does; of that, patterns are enough (files.go, expandPath)."""


def checked(path: Path, own: str) -> str:
    """The definition ``path`` with its values filled in, its host files made absolute below ``own``, the
    place where Apptainer sees the folder of ``path``.

    Raises HpcstateError when it cannot be read, and ProblemsError with what is wrong in it and where.
    """
    text = _read(path)
    lines = _lines(text, path)
    if problems := check(lines, path.parent):
        raise ProblemsError(paths.shown(path), tuple(problems))
    made = "\n".join(located(lines, path.parent, own)) + "\n"
    demand_harmless(made, paths.shown(path))
    return made


def demand_harmless(text: str, where: str) -> None:
    """Raises ProblemsError when Apptainer would run a part of the definition ``text`` on this machine, or
    read it in another way than it was checked: for the whole text that it gets, whatever that is made of.
    """
    found: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if section := _SECTION.match(line):
            found += _section(number, section[1], section[2])
        if strange := _strange(line):
            message = f"{', '.join(strange)} is no character of a definition"
            found.append(Problem(number, "character", message, "write it as text, without it"))
    for value in template.active(text):
        at = text.count("\n", 0, value.start()) + 1
        found.append(Problem(at, value[0], "Apptainer would replace this", "write it in another way"))
    if found:
        raise ProblemsError(where, tuple(found))


def _read(path: Path) -> str:
    try:
        # A file of Windows: Apptainer takes the two characters for one line break, too.
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HpcstateError(f"cannot be read: {error}", where=paths.shown(path)) from error


def _lines(text: str, path: Path) -> list[str]:
    """The lines of the definition ``text`` with their values. Raises ProblemsError for one that has none."""
    try:
        return template.filled(text.removesuffix("\n")).split("\n")
    except template.UnknownValueError as error:
        hint = f"give it a default:  %arguments, and {error.name}=VALUE below it"
        problem = Problem(error.line, f"{{{{ {error.name} }}}}", "no %arguments of this stage has it", hint)
        raise ProblemsError(paths.shown(path), (problem,)) from error


_STRANGE = "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def _strange(line: str) -> list[str]:
    """Characters at which some programs break lines and others, as Apptainer, do not."""
    return sorted({repr(character) for character in line if character in _STRANGE})


def bases(path: Path) -> dict[str, str]:
    """What the definition ``path`` starts from, each stage: ``base:`` and its ``From`` to the digest of that:
    the one it is pinned to, that of a file beside it, or "not pinned". :func:`checked` has found it sound.
    """
    found: dict[str, str] = {}
    agent = ""
    for _, _, _, key, value in _scanned(_lines(_read(path), path)):
        if key == "bootstrap":
            agent = value
        elif key == "from":
            image, _, pinned = value.partition("@")
            file = path.parent / value.partition(":")[0]
            if not pinned and agent in _LOCAL and file.is_file():
                pinned = f"sha256:{file_digest(file)}"
            # A label has no blanks in its name.
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
        if key and not part and line.rstrip().endswith("\\"):
            found.append(Problem(number, key, "a header does not go over several lines", "write it in one"))
        if key.startswith("%"):
            found += _section(number, key.removeprefix("%"), value)
        elif key == "bootstrap":
            agents.append((number, value))
            if value in INSTALLERS:
                message = f"{value} runs programs on this machine, outside the container"
                hint = (
                    "container.yaml without a definition builds from Debian's packages; or Bootstrap: docker"
                )
                found.append(Problem(number, "Bootstrap", message, hint))
            elif value not in AGENTS:
                message = f"there is no bootstrap {value!r}"
                found.append(Problem(number, "Bootstrap", message, f"there are: {_list(AGENTS)}"))
        elif key == "from":
            origins += 1
            found += _origin(number, value, agents[-1][1] if agents else "", folder)
        elif not key and not part and line.strip() and not line.lstrip().startswith("#"):
            found.append(Problem(number, "header", f"no `Key: value`: {line.strip()[:60]!r}"))
        elif part in _OF_HOST_FILES and not key:
            found += _files(number, line, folder)
    if not agents:
        found.append(
            Problem(
                1, "Bootstrap", "the header does not say where to start", "Bootstrap: docker and From: IMAGE"
            )
        )
    if agents and not origins and agents[0][1] in AGENTS - {"scratch"}:
        found.append(Problem(agents[0][0], "From", "the header does not say which image"))
    return found


def located(lines: Sequence[str], folder: Path, own: str) -> list[str]:
    """``lines`` with the host files that they name relative to ``folder`` below ``own``."""
    made: list[str] = []
    agent = ""
    for _, line, part, key, value in _scanned(lines):
        if key == "bootstrap":
            agent = value
        if key == "from" and agent in _LOCAL:
            made.append(f"From: {own}/{value}")
        elif part in _OF_HOST_FILES and not key and (source := _source(line)):
            made.append(line.replace(source, f"{own}/{source}", 1))
        else:
            made.append(line)
    return made


def _scanned(lines: Sequence[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """Each line with its number, the section that it is in (empty: the header), and of the start of a section
    (``%post``) or a line of the header (``from``) the key and the value. A further `Bootstrap:` at the start
    of a line begins the next stage; files from a stage are not the host's.
    """
    section = ""
    for number, line in enumerate(lines, 1):
        key, value = "", ""
        if entered := _SECTION.match(line):
            section, value = entered[1].lower(), entered[2]
            key = f"%{section}"
            if section == "files" and value.partition("#")[0].split()[:1] == ["from"]:
                section = "files from a stage"
        elif (header := _HEADER.match(line)) and (not section or _STAGE.match(line)):
            section, key, value = "", header[1].lower(), header[2]
        yield number, line, section, key, value


def _section(number: int, written: str, words: str) -> list[Problem]:
    name = written.lower()
    # Apptainer takes all that stands before the name away: %%setup is %setup.
    if name.strip("%") in ON_THE_HOST:
        hint = "use %files for files, and %post for commands inside the container"
        message = "its commands run on this machine, outside the container"
        return [Problem(number, f"%{name}", message, hint)]
    if name not in SECTIONS:
        return [Problem(number, f"%{name}", "there is no such section", f"there are: {_list(SECTIONS)}")]
    if name.startswith("app") and not words:
        return [Problem(number, f"%{name}", "it does not say of which app", f"%{name} NAME")]
    return []


def _origin(number: int, value: str, agent: str, folder: Path) -> list[Problem]:
    if not value:
        return [Problem(number, "From", "it names no image")]
    if agent in _LOCAL:
        file = folder / value.partition(":")[0]
        if not _inside(file, folder):
            return [Problem(number, "From", f"{value} leads out of the folder", _COPY)]
        if not file.exists():
            return [Problem(number, "From", f"there is no {value} beside it")]
    return []


_COPY = "only what lies in the container's folder goes in: copy it there"
_OF_HOST_FILES = ("files", "appfiles")


def _files(number: int, line: str, folder: Path) -> list[Problem]:
    if not line.strip() or line.lstrip().startswith("#"):
        return []
    source = _source(line)
    if not source or _READ_BY_A_SHELL.search(source):
        return [Problem(number, "%files", f"write the name plainly or in double quotes: {line.strip()[:60]}")]
    found = list(folder.glob(source)) if not source.startswith("/") else []
    if source.startswith("/") or ".." in Path(source).parts:
        return [Problem(number, "%files", f"{source} leads out of the folder", _COPY)]
    for file in found:
        if outside := next((inner for inner in (file, *file.rglob("*")) if not _inside(inner, folder)), None):
            name = outside.relative_to(folder)
            return [Problem(number, "%files", f"{name} is a link that leads out of the folder", _COPY)]
    if not found:
        return [Problem(number, "%files", f"there is no {source} beside it")]
    return []


def _inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _source(line: str) -> str:
    """The host's file of a line of %files; empty where it names none, or not plainly."""
    found = _SOURCE.match(line)
    return (found[1] or found[2] or "") if found and not line.lstrip().startswith("#") else ""


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
