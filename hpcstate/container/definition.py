"""A definition of the user's own (``container.def``): checked before anything is built, and made to find the
files of its folder wherever Apptainer runs.

The language: Apptainer's user guide, "Definition Files". The parser of spython 0.3.14 does not serve here: it
keeps no line numbers, refuses every bootstrap but Docker's, and takes an unknown section for a comment.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from hpcstate import paths
from hpcstate.container import archive, deffile, origin, template
from hpcstate.container.credentials import registry_of
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
_LATER = frozenset({"buildargs", "filename", "frontend", "target"})
INSTALLERS = frozenset({"arch", "busybox", "debootstrap", "dnf", "yum", "zypper"})
"""They run programs outside the container: what they fetched (busybox), or a package manager."""
SECTIONS = frozenset(
    {"appenv", "appfiles", "apphelp", "appinstall", "applabels", "apprun", "appstart", "apptest", "arguments"}
    | {"environment", "files", "help", "labels", "post", "runscript", "startscript", "test"}
)
ON_THE_HOST = frozenset({"pre", "setup"})
"""What Apptainer runs outside the container, with the rights of whoever builds."""

_WRITTEN = re.compile(r"^\s*%(\S*)")
_SOURCE = re.compile(r'^\s*(?:"([^"]*)"|([^\s"\']+))(?=\s|$)', re.ASCII)
"""The host's file of a line of %files, in quotes or without blanks."""
_READ_BY_A_SHELL = re.compile(r"[^\w ./*?\[\]@%+=:,#-]|^#")
"""Apptainer expands names as a shell does; of that, patterns are enough (files.go, expandPath)."""


def checked(
    path: Path,
    own: str,
    given: Mapping[str, str] | None = None,
    moved: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """The definition ``path`` with its values filled in, those ``given`` first, its host files made absolute
    below ``own``, the place where Apptainer sees the ``folder`` that they are in (None: that of ``path``);
    ``moved`` are those that it sees elsewhere.

    Raises HpcstateError when it cannot be read, and ProblemsError with what is wrong in it and where.
    """
    text = _read(path)
    lines = _lines(text, path, given or {})
    if unused := sorted(set(given or {}) - template.names(text)):
        hint = "write {{ NAME }} where it belongs, or leave it out"
        problem = Problem(1, f"{{{{ {unused[0]} }}}}", "no line uses this value of `arguments`", hint)
        raise ProblemsError(paths.shown(path), (problem,))
    folder = folder or path.parent
    if problems := check(lines, folder):
        raise ProblemsError(paths.shown(path), tuple(problems))
    made = "\n".join(located(lines, folder, own, moved)) + "\n"
    demand_harmless(made, paths.shown(path))
    return made


def demand_harmless(text: str, where: str) -> None:
    """Raises ProblemsError when Apptainer would run a part of the definition ``text`` on this machine, or
    read it in another way than it was checked: for the whole text that it gets, whatever that is made of.
    """
    found: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if _WRITTEN.match(line):
            found += _section(number, line)
        if strange := _strange(line):
            message = f"{', '.join(strange)} is no character of a definition"
            found.append(Problem(number, "character", message, "write it as text, without it"))
    for value in template.active(text):
        at = text.count("\n", 0, value.start()) + 1
        found.append(Problem(at, value[0], "Apptainer would replace this", "write it in another way"))
    if found:
        raise ProblemsError(where, tuple(found))


def _read(path: Path) -> str:
    content = b""
    try:
        content = path.read_bytes()
        # A file of Windows: Apptainer takes the two characters for one line break, too.
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        message = f"the byte 0x{content[error.start]:02x} is no character of UTF-8"
        hint = f"iconv --from-code=LATIN1 --to-code=UTF-8 {path.name}, if it is of an old editor"
        raise ProblemsError(paths.shown(path), (Problem(number, "character", message, hint),)) from error
    except OSError as error:
        raise HpcstateError(f"cannot be read: {error}", where=paths.shown(path)) from error
    if text.startswith("\ufeff"):
        message = "it begins with a mark of byte order, behind which Apptainer knows no keyword"
        problem = Problem(1, "character", message, "save it as UTF-8 without BOM")
        raise ProblemsError(paths.shown(path), (problem,))
    return text


def _lines(text: str, path: Path, given: Mapping[str, str]) -> list[str]:
    """The lines of the definition ``text`` with their values. Raises ProblemsError for one that has none."""
    try:
        filled = template.filled(text.removesuffix("\n"), given)
        if template.stages(filled) != template.stages(text):
            message = "a value makes a line with Bootstrap: of itself, which Apptainer would not read as one"
            raise ProblemsError(paths.shown(path), (Problem(1, "stage", message, "write the stage out"),))
        return filled.split("\n")
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


def bases(path: Path, given: Mapping[str, str] | None = None, folder: Path | None = None) -> dict[str, str]:
    """What the definition ``path`` starts from, each stage: ``base:`` and its ``From`` to the digest of that:
    the one it is pinned to, that of a file in ``folder``, or "not pinned". :func:`checked` has found it
    sound.
    """
    found: dict[str, str] = {}
    for stage in deffile.stages(_lines(_read(path), path, given or {})):
        value, agent = stage.of("from"), stage.of("bootstrap")
        if not value or agent == "scratch":
            continue
        image, _, pinned = stage.image.partition("@")
        file = (folder or path.parent) / (origin.beside(agent, value)[0] if agent in origin.BESIDE else value)
        whole = file.is_file() or (file / archive.INDEX).is_file()
        if not pinned and agent in origin.BESIDE and whole:
            pinned = f"sha256:{archive.digest(file)}"
        # A label has no blanks in its name.
        found[f"base:{''.join(image.split())}"] = pinned or "not pinned"
    return found


def registries(lines: Sequence[str]) -> set[str]:
    """The registries of images (host and port) that the definition ``lines`` fetches from."""
    return {
        registry_of(stage.image)
        for stage in deffile.stages(lines)
        if stage.of("bootstrap") in origin.FETCHED and stage.of("from")
    }


def check(lines: Sequence[str], folder: Path) -> list[Problem]:
    """What is wrong in the definition ``lines``; ``folder`` is where its files are."""
    found: list[Problem] = []
    stages = deffile.stages(lines)
    idle = deffile.without_commands(lines, ON_THE_HOST)
    for number, line, part, key, value in deffile.scanned(lines):
        if number in idle:
            continue
        if key.startswith("%"):
            found += _section(number, line)
            if part == deffile.FROM_A_STAGE:
                found += _from_a_stage(number, line, stages)
        elif key and value.endswith("\\"):
            message = "its `\\` is followed by nothing that continues it: Apptainer forgets the line or ends"
            hint = "write the value on one line, or go on in the very next one, without a comment between"
            found.append(Problem(number, key.capitalize(), message, hint))
        elif key and key not in KEYS and not re.fullmatch(r"otherurl\d+", key):
            hint = f"{key} is a keyword of Apptainer 1.5" if key in _LATER else f"there are: {_list(KEYS)}"
            found.append(Problem(number, key, "no header has this keyword", hint))
        elif not key and not part and line.strip() and not line.lstrip().startswith("#"):
            found.append(Problem(number, "header", f"no `Key: value`: {line.strip()[:60]!r}"))
        elif part in _OF_HOST_FILES and not key:
            found += _files(number, line, folder, part)
    for number in deffile.too_long(lines):
        message = f"this part is longer than Apptainer can read ({deffile.LONGEST >> 10} KiB)"
        found.append(
            Problem(number, "section", message, "put what is long into a file, and that into %files")
        )
    for index, stage in enumerate(stages):
        found += _stage(stage, stages[:index], folder, last=index + 1 == len(stages))
    return sorted([*found, *_library(stages)], key=lambda problem: problem.line)


def _stage(
    stage: deffile.DefinitionStage, before: Sequence[deffile.DefinitionStage], folder: Path, last: bool
) -> list[Problem]:
    """What is wrong in the header of ``stage``."""
    if "bootstrap" not in stage.header:
        if last:
            message = "the header does not say where to start"
            return [Problem(1, "Bootstrap", message, "Bootstrap: docker and From: IMAGE")]
        message = "it stands before Bootstrap, where Apptainer begins to read"
        hint = "write Bootstrap first, then the others"
        early = [(number, key.capitalize()) for key, (number, _) in stage.header.items()]
        early += [(stage.section, "section")] if stage.section else []
        return [Problem(number, name, message, hint) for number, name in early]
    number, agent = stage.header["bootstrap"]
    found = _agent(number, agent)
    if "from" in stage.header:
        return found + origin.problems(stage.header["from"][0], stage, folder)
    misplaced = any("from" in other.header for other in before if "bootstrap" not in other.header)
    if agent in AGENTS - {"scratch"} and not misplaced:
        found.append(Problem(number, "From", "the header does not say which image"))
    return found


def _agent(number: int, value: str) -> list[Problem]:
    if value in AGENTS:
        return []
    if value in INSTALLERS:
        message = f"{value} runs programs on this machine, outside the container"
        hint = "container.yaml without a definition builds from Debian's packages; or Bootstrap: docker"
        return [Problem(number, "Bootstrap", message, hint)]
    if value in ELSEWHERE:
        return [
            Problem(number, "Bootstrap", f"{value} does not work where Apptainer builds", ELSEWHERE[value])
        ]
    meant = value.lower().strip("\"'")
    hint = f"write {meant}" if meant in AGENTS else f"there are: {_list(AGENTS)}"
    return [Problem(number, "Bootstrap", f"there is no bootstrap {value!r}", hint)]


def _library(stages: Sequence[deffile.DefinitionStage]) -> list[Problem]:
    """What is wrong with the address of the library, which is one for all stages (build_linux.go)."""
    needing = [stage.header["bootstrap"][0] for stage in stages if stage.of("bootstrap") == "library"]
    named = [stage.header["library"] for stage in stages if "library" in stage.header]
    hint = f"write `Library: {deffile.SYLABS}` in the header; or take Bootstrap: docker, or oras"
    if needing and not named:
        return [Problem(needing[0], "Bootstrap", "Apptainer comes without a library", hint)]
    return [
        Problem(number, "Library", f"{value} is no address of the web", hint)
        for number, value in named
        if needing and not re.match(r"https?://", value)
    ]


def _from_a_stage(number: int, line: str, stages: Sequence[deffile.DefinitionStage]) -> list[Problem]:
    """What is wrong with the stage of a `%files from STAGE` (internal/pkg/build/build.go, findStageIndex)."""
    name = deffile.copied_from(line)
    if not name:
        message = "by what stands behind it, Apptainer copies nothing of this section"
        return [Problem(number, "%files", message, "write %files and nothing more, or %files from STAGE")]
    names = [stage.of("stage") for stage in stages]
    own = max(index for index, stage in enumerate(stages) if stage.number <= number)
    if name not in names:
        known = ", ".join(name for name in names if name)
        hint = f"there are: {known}" if known else "`Stage: NAME` in a header names one"
        return [Problem(number, "%files", f"there is no stage {name!r}", hint)]
    if names.index(name) > own:
        return [Problem(number, "%files", f"the stage {name!r} is built after this one", "write it before")]
    return []


def located(
    lines: Sequence[str], folder: Path, own: str, moved: Mapping[str, str] | None = None
) -> list[str]:
    """``lines`` with the host files that they name relative to ``folder`` below ``own``, and each with the
    place where it goes: without one, Apptainer would take that where it sees the file. What would run on
    this machine and has no commands is left out.
    """
    made: list[str] = []
    places = {number: value for number, _, value in _local(lines)}
    idle = deffile.without_commands(lines, ON_THE_HOST)
    for number, line, part, key, _ in deffile.scanned(lines):
        if number in idle:
            made.append("")
        elif number in places:
            value = places[number]
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
    return [f'    "{own}/{name}" "/{name}"' for name in _matching(folder, source)]


def local(path: Path, given: Mapping[str, str] | None = None) -> list[tuple[int, str, str]]:
    """The images beside the definition ``path`` that its stages start from: line, bootstrap, and `From`."""
    return _local(_lines(_read(path), path, given or {}))


def _local(lines: Sequence[str]) -> list[tuple[int, str, str]]:
    return [
        (*stage.header["from"][:1], stage.of("bootstrap"), stage.of("from"))
        for stage in deffile.stages(lines)
        if stage.of("bootstrap") in origin.BESIDE and "from" in stage.header
    ]


def _section(number: int, line: str) -> list[Problem]:
    """What is wrong in the ``line`` that begins a section."""
    written = _WRITTEN.match(line)
    place = f"%{written[1].lower()}" if written else "%"
    name = place.lstrip("%")
    # Apptainer takes all that stands before the name away: %%setup is %setup.
    if name.strip("%") in ON_THE_HOST:
        hint = "use %files for files, and %post for commands inside the container"
        message = "its commands run on this machine, outside the container"
        return [Problem(number, place, message, hint)]
    if name not in SECTIONS:
        return [Problem(number, place, "there is no such section", f"there are: {_list(SECTIONS)}")]
    own, _, words = line.lstrip("%").partition(" ")
    if own.lower() != name:
        where = "before" if not line.startswith("%") else "behind"
        message = f"there is a blank {where} it for which Apptainer knows no such section"
        hint = "begin the line with it" if where == "before" else "write one blank, no tabulator, or nothing"
        return [Problem(number, place, message, hint)]
    return _app(number, own, words.partition(" ")[0]) if name.startswith("app") else []


def _app(number: int, section: str, app: str) -> list[Problem]:
    place = f"%{section}"
    if section != section.lower():
        return [Problem(number, place, "Apptainer knows it in small letters only", place.lower())]
    if not app:
        return [
            Problem(number, place, "it does not say of which app", f"{place} NAME, with one blank between")
        ]
    if ".." in app.split("/"):
        return [Problem(number, place, f"{app} leads out of the container", f"{place} NAME, a plain word")]
    return []


_OF_HOST_FILES = ("files", "appfiles")


def _files(number: int, line: str, folder: Path, part: str) -> list[Problem]:
    plain = line.partition("#")[0]
    if part == "appfiles" and ".." in re.split(r"[\s/]", plain.strip().partition(" ")[2]):
        message = f"{plain.split()[-1]} leads out of the app"
        return [Problem(number, "%appfiles", message, "name a place below the app's folder")]
    if part == "appfiles" and re.search(r"[\"*?\[]", plain):
        message = "in %appfiles Apptainer knows neither quotes nor patterns"
        return [Problem(number, "%appfiles", message, "name one file a line, without blanks in its name")]
    if not line.strip() or line.lstrip().startswith("#"):
        return []
    source = _source(line)
    if not source or _READ_BY_A_SHELL.search(source):
        return [Problem(number, "%files", f"write the name plainly or in double quotes: {line.strip()[:60]}")]
    found = [folder / name for name in _matching(folder, source)]
    if source.startswith("/") or ".." in Path(source).parts:
        return [Problem(number, "%files", f"{source} leads out of the folder", origin.COPY)]
    for file in found:
        if outside := next(
            (inner for inner in (file, *file.rglob("*")) if not origin.inside(inner, folder)), None
        ):
            name = outside.relative_to(folder)
            return [Problem(number, "%files", f"{name} is a link that leads out of the folder", origin.COPY)]
    if not found:
        return [Problem(number, "%files", f"there is no {source} beside it")]
    return []


def _matching(folder: Path, source: str) -> list[str]:
    """What the pattern ``source`` names in ``folder``, as for a shell: not what begins with a dot, and ``**``
    is ``*``.
    """
    if source.startswith("/"):
        return []
    # Path.glob takes hidden files, too, and fails at ".".
    found = glob.glob(source, root_dir=folder)  # noqa: PTH207
    return sorted(PurePosixPath(name).as_posix() for name in found)


def _source(line: str) -> str:
    """The host's file of a line of %files; empty where it names none, or not plainly."""
    found = _SOURCE.match(line)
    return (found[1] or found[2] or "") if found and not line.lstrip().startswith("#") else ""


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
