"""What a Dockerfile asks of the engine that not every engine has: said before the build, in a line each.

It refuses nothing: whether the engine takes the file, the engine says. buildah's releases: its CHANGELOG.md,
and what each has of imagebuilder (vendor/github.com/openshift/imagebuilder, dispatchers.go, shell_parser.go);
here-documents from 1.35, for 1.33 and 1.34 keep a layer whose document was changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcstate.container.dockerfile import KEYWORDS, Images, Instruction
from hpcstate.container.dockerfile_values import operations, words

BUILDKIT = "Docker with BuildKit (docker-buildx)"

Release = tuple[int, ...]
_NONE: Release = ()
"""No buildah that is out knows it: the newest that was looked at is _LATEST."""
_LATEST = (1, 44)

_FLAGS: dict[tuple[str, str], Release] = {
    ("COPY", "--link"): (1, 41),
    ("ADD", "--link"): (1, 41),
    ("COPY", "--parents"): (1, 40),
    ("COPY", "--exclude"): (1, 38),
    ("ADD", "--exclude"): (1, 38),
    ("ADD", "--checksum"): (1, 33),
    ("ADD", "--keep-git-dir"): _NONE,
    ("ADD", "--unpack"): _NONE,
    ("RUN", "--network"): (1, 30),
    ("RUN", "--device"): _NONE,
    ("RUN", "--security"): _NONE,
}
"""Options that Docker knows with BuildKit only, and the buildah that knows them first."""

_START_INTERVAL = (1, 37)
_CHANGED_VALUE = (1, 37)
_DEMANDED_VALUE = (1, 30)
_EXPANDED = frozenset(
    {"ADD", "ARG", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
"""The instructions whose variables the engine fills in; in the others it is a shell's."""

_DOCUMENTS = (1, 35)
PLATFORM_IN_FROM = (1, 37)
DEFAULT_IN_FROM = (1, 29)
"""buildah before takes a stage that only a default names for one that nothing uses, and leaves it out
(imagebuildah/executor.go, Build: the arguments before the first FROM are not looked at)."""
_SEEN = (1, 28)
"""The newest buildah that was seen to lack what _of_old_buildah tells."""
_PLATFORM = re.compile(r"\$\{?((?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT))\b")


def release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version (``1.28.2``)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def lines(
    instructions: Sequence[Instruction],
    images: Images,
    engine: str,
    version: str,
    *,
    buildkit: bool = False,
) -> list[str]:
    """What ``instructions`` ask of the engine (``docker``, ``buildah``) that this one may not have, each with
    its line and who has it; and what looks like a mistake.
    """
    here = f"{engine} {version}" + ("" if engine == "buildah" or buildkit else " without BuildKit")
    found: dict[str, str] = {}
    for instruction in instructions:
        for what, first, of_buildkit in _asked(instruction):
            if engine == "buildah":
                lacking = release(version) < (first or (*_LATEST, 0))
            else:
                lacking = of_buildkit and not buildkit
            if lacking and what not in found:
                numbers = ".".join(map(str, first or _LATEST))
                who = f"buildah {numbers} does, and {BUILDKIT}"
                if not first:
                    who = f"no buildah up to {numbers} does, {BUILDKIT} does"
                found[what] = (
                    f"line {instruction.line}: {instruction.keyword} {what}: {here} does not know it; {who}"
                )
        if instruction.keyword not in KEYWORDS:
            found.setdefault(
                f"keyword {instruction.keyword}",
                f"line {instruction.line}: {instruction.keyword[:40]}: the reference has no such instruction",
            )
    old = engine == "buildah" and release(version) <= _SEEN
    return [*found.values(), *(_of_old_buildah(instructions, here) if old else ()), *_unset(images, engine)]


def _of_old_buildah(instructions: Sequence[Instruction], here: str) -> Iterator[str]:
    """What buildah 1.28.2 refuses and Docker takes, as it was seen."""
    stages: dict[str, str] = {}
    for instruction in instructions:
        values = [flag.partition("=")[2] for flag in instruction.flags if flag.startswith("--from=")]
        if instruction.keyword == "FROM":
            parts = [word for word in words(instruction.words) if not word.startswith("--")]
            values = parts[:1]
        for value in values:
            written = stages.get(value.lower(), value)
            if written != value:
                yield (
                    f"line {instruction.line}: {here} takes {value} for another name than that of the stage"
                    f" {written}: write it alike"
                )
            elif instruction.keyword != "FROM" and re.fullmatch(r"\$\{?\w+\}?", value):
                yield (
                    f"line {instruction.line}: --from={value}: {here} looks for an image of that name, not"
                    f" for a stage; {BUILDKIT} knows both"
                )
        if instruction.keyword == "FROM" and len(parts) > 2 and parts[1].lower() == "as":
            stages[parts[2].lower()] = parts[2]


def _asked(instruction: Instruction) -> Iterator[tuple[str, Release, bool]]:
    """What not every engine has of ``instruction``: the buildah that knows it first, and whether Docker
    needs BuildKit for it."""
    if instruction.document:
        yield "with a here-document (<<)", _DOCUMENTS, True
    for flag in instruction.flags:
        name, _, value = flag.partition("=")
        if (instruction.keyword, name) in _FLAGS:
            yield name, _FLAGS[instruction.keyword, name], True
        elif instruction.keyword == "HEALTHCHECK" and name == "--start-interval":
            yield name, _START_INTERVAL, False
        elif name == "--chmod" and instruction.keyword in ("ADD", "COPY") and _SYMBOLIC.match(value):
            yield "--chmod with a mode in letters (755 is known everywhere)", _NONE, True
    if instruction.keyword in _EXPANDED:
        for operation in operations(instruction.words):
            if operation in ("-", "+", "?"):
                yield f"with ${{NAME{operation}…}}, without a colon", _NONE, False
            elif operation == ":?":
                yield "with ${NAME:?…}", _DEMANDED_VALUE, False
            elif not operation.startswith(":"):
                yield f"with ${{NAME{operation}…}}", _CHANGED_VALUE, False


_SYMBOLIC = re.compile(r"[\"']?[ugoa]*[-+=]")
"""A mode of chmod(1) that is no number."""


def _unset(images: Images, engine: str) -> Iterator[str]:
    for line, name in images.unset:
        if engine == "buildah" and _PLATFORM.match(f"${name}"):
            yield (
                f"line {line}: ${name} has no value in FROM: buildah before"
                f" {'.'.join(map(str, PLATFORM_IN_FROM))} gives it one only where `ARG {name}` stands before"
                f" the first FROM (BuildKit always)"
            )
        else:
            yield (
                f"line {line}: ${name} has no value here: give it a default, `ARG {name}=VALUE` before the"
                f" first FROM, or one in container.yaml, `arguments`"
            )
