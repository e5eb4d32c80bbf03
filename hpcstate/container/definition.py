"""A definition of the user's own (``container.def``): checked before anything is built, and made to find the
files of its folder wherever Apptainer runs.

The language: Apptainer's user guide, "Definition Files". The parser of spython 0.3.14 does not serve here: it
keeps no line numbers, refuses every bootstrap but Docker's, and takes an unknown section for a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpcstate import paths
from hpcstate.container import architecture, archive, sif, template
from hpcstate.container.credentials import host_of, registry_of
from hpcstate.errors import HpcstateError, Problem, ProblemsError

AGENTS = frozenset(
    {"docker", "docker-archive", "library", "localimage", "oci", "oci-archive", "oras", "scratch"}
)
ELSEWHERE = {
    "docker-daemon": "docker save IMAGE -o image.tar, put it beside, and Bootstrap: docker-archive",
    "shub": "Singularity Hub is closed: Bootstrap: docker, or a .sif beside it and localimage",
}
"""Bootstraps that Apptainer has and that do not work where it builds, with the way out."""

KEYS = frozenset(
    {"bootstrap", "confurl", "fingerprints", "from", "include", "includecmd", "library", "mirrorurl"}
    | {"modules", "namespace", "osversion", "product", "productpgp", "regcode", "registerurl", "registry"}
    | {"setopt", "stage", "updateurl", "user"}
)
"""Of a header (pkg/build/types/parser/deffile.go, validHeaders); `otherurl` has a number besides."""
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


def checked(
    path: Path,
    own: str,
    given: Mapping[str, str] | None = None,
    moved: Mapping[str, str] | None = None,
) -> str:
    """The definition ``path`` with its values filled in, those ``given`` first, its host files made absolute
    below ``own``, the place where Apptainer sees the folder of ``path``; ``moved`` are those that it sees
    elsewhere.

    Raises HpcstateError when it cannot be read, and ProblemsError with what is wrong in it and where.
    """
    text = _read(path)
    lines = _lines(text, path, given or {})
    if unused := sorted(set(given or {}) - template.names(text)):
        hint = "write {{ NAME }} where it belongs, or leave it out"
        problem = Problem(1, f"{{{{ {unused[0]} }}}}", "no line uses this value of `arguments`", hint)
        raise ProblemsError(paths.shown(path), (problem,))
    if problems := check(lines, path.parent):
        raise ProblemsError(paths.shown(path), tuple(problems))
    made = "\n".join(located(lines, path.parent, own, moved)) + "\n"
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


def _lines(text: str, path: Path, given: Mapping[str, str]) -> list[str]:
    """The lines of the definition ``text`` with their values. Raises ProblemsError for one that has none."""
    try:
        return template.filled(text.removesuffix("\n"), given).split("\n")
    except template.UnknownValueError as error:
        hint = (
            f"give it a default:  %arguments, and {error.name}=VALUE below it;"
            f" or a value: `arguments` in container.yaml"
        )
        problem = Problem(error.line, f"{{{{ {error.name} }}}}", "no %arguments of this stage has it", hint)
        raise ProblemsError(paths.shown(path), (problem,)) from error


_STRANGE = "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def _strange(line: str) -> list[str]:
    """Characters at which some programs break lines and others, as Apptainer, do not."""
    return sorted({repr(character) for character in line if character in _STRANGE})


def bases(path: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the definition ``path`` starts from, each stage: ``base:`` and its ``From`` to the digest of that:
    the one it is pinned to, that of a file beside it, or "not pinned". :func:`checked` has found it sound.
    """
    found: dict[str, str] = {}
    agent = ""
    for _, _, _, key, value in _scanned(_lines(_read(path), path, given or {})):
        if key == "bootstrap":
            agent = value
        elif key == "from":
            image, _, pinned = value.partition("@")
            file = path.parent / value.partition(":")[0]
            whole = file.is_file() or (file / archive.INDEX).is_file()
            if not pinned and agent in _LOCAL and whole:
                pinned = f"sha256:{archive.digest(file)}"
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
    staged = any(_STAGE.match(line) for line in lines)
    for number, line, part, key, value in _scanned(lines):
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
            elif value in ELSEWHERE:
                message = f"{value} does not work where Apptainer builds"
                found.append(Problem(number, "Bootstrap", message, ELSEWHERE[value]))
            elif value not in AGENTS:
                message = f"there is no bootstrap {value!r}"
                found.append(Problem(number, "Bootstrap", message, f"there are: {_list(AGENTS)}"))
        elif key and key.rstrip("0123456789") not in KEYS | {"otherurl"}:
            found.append(Problem(number, key, "no header has this keyword", f"there are: {_list(KEYS)}"))
        elif key and not agents and staged:
            message = "it stands before Bootstrap, where Apptainer begins to read: it does not count"
            found.append(Problem(number, key.capitalize(), message, "write Bootstrap first, then the others"))
            origins += key == "from"
        elif key == "from":
            origins += 1
            found += _origin(number, value, agents[-1][1] if agents else "", folder)
        elif not key and not part and line.strip() and not line.lstrip().startswith("#"):
            found.append(Problem(number, "header", f"no `Key: value`: {line.strip()[:60]!r}"))
        elif part in _OF_HOST_FILES and not key:
            found += _files(number, line, folder, part)
    if not agents:
        found.append(
            Problem(
                1, "Bootstrap", "the header does not say where to start", "Bootstrap: docker and From: IMAGE"
            )
        )
    if agents and not origins and agents[0][1] in AGENTS - {"scratch"}:
        found.append(Problem(agents[0][0], "From", "the header does not say which image"))
    return found


def located(
    lines: Sequence[str], folder: Path, own: str, moved: Mapping[str, str] | None = None
) -> list[str]:
    """``lines`` with the host files that they name relative to ``folder`` below ``own``, and each with the
    place where it goes: without one, Apptainer would take that where it sees the file.
    """
    made: list[str] = []
    agent = ""
    for _, line, part, key, value in _scanned(lines):
        if key == "bootstrap":
            agent = value
        if key == "from" and agent in _LOCAL:
            made.append(f"From: {(moved or {}).get(value, f'{own}/{value}')}")
        elif part in _OF_HOST_FILES and not key and (source := _source(line)):
            made += _placed(line, source, folder, own, part)
        else:
            made.append(line)
    return made


def _placed(line: str, source: str, folder: Path, own: str, part: str) -> list[str]:
    if part == "appfiles":
        plain = line.partition("#")[0].split()
        return [f"    {own}/{source} {' '.join(plain[1:]) or source}"]
    if _SOURCE.sub("", line, count=1).strip():
        return [line.replace(source, f"{own}/{source}", 1)]
    names = sorted(file.relative_to(folder).as_posix() for file in folder.glob(source))
    return [f'    "{own}/{name}" "/{name}"' for name in names]


def local(path: Path, given: Mapping[str, str] | None = None) -> list[tuple[int, str, str]]:
    """The images beside the definition ``path`` that its stages start from: line, bootstrap, and `From`."""
    found, agent = [], ""
    for number, _, _, key, value in _scanned(_lines(_read(path), path, given or {})):
        if key == "bootstrap":
            agent = value
        elif key == "from" and agent in _LOCAL:
            found.append((number, agent, value))
    return found


def without(text: str, name: str) -> str:
    """The definition ``text`` without its sections ``name`` (``runscript``)."""
    kept, dropped = [], False
    for line in text.split("\n"):
        if section := _SECTION.match(line):
            dropped = section[1].lower().strip("%") == name
        elif _STAGE.match(line):
            dropped = False
        kept += [] if dropped else [line]
    return "\n".join(kept)


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """``lines`` with what continues a line of a header in that line, by the reader of Apptainer (doHeader): a
    comment, an empty line, a section or a stage ends it. There are as many as before.
    """
    waiting: list[str] = []
    text, header = "", True
    for line in lines:
        plain = line.partition("#")[0].strip() if header else ""
        starts = bool(_SECTION.match(line) or _STAGE.match(line))
        if waiting and (starts or not plain):
            yield from [text, *waiting[1:]]
            waiting, text = [], ""
        header = bool(_STAGE.match(line)) or (header and not _SECTION.match(line))
        if header and (waiting or plain.endswith("\\")):
            plain = line.partition("#")[0].strip()
            text += plain.removesuffix("\\")
            waiting.append("")
            if not plain.endswith("\\"):
                yield from [text, *waiting[1:]]
                waiting, text = [], ""
        else:
            yield line
    if waiting:
        yield from [text, *waiting[1:]]


def _scanned(lines: Sequence[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """Each line with its number, the section that it is in (empty: the header), and of the start of a section
    (``%post``) or a line of the header (``from``) the key and the value. A further `Bootstrap:` at the start
    of a line begins the next stage; files from a stage are not the host's.
    """
    section = ""
    for number, line in enumerate(_joined(lines), 1):
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
        return _other_machine(number, file, agent)
    return []


def _other_machine(number: int, file: Path, agent: str) -> list[Problem]:
    """Whether the image ``file`` is for another architecture: Apptainer 1.4.5 does not look."""
    try:
        if agent == "localimage":
            if file.is_file() and file.suffix == ".sif" and file.stat().st_size:
                architecture.demand(sif.read(file).architecture, file.name)
        elif file.is_dir() or file.stat().st_size:
            archive.config(file)
    except HpcstateError as error:
        return [Problem(number, "From", f"{file.name}: {error.message}", error.hint)]
    return []


_COPY = "only what lies in the container's folder goes in: copy it there"
_OF_HOST_FILES = ("files", "appfiles")


def _files(number: int, line: str, folder: Path, part: str) -> list[Problem]:
    if part == "appfiles" and re.search(r"[\"*?\[]", line.partition("#")[0]):
        message = "in %appfiles Apptainer knows neither quotes nor patterns"
        return [Problem(number, "%appfiles", message, "name one file a line, without blanks in its name")]
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
