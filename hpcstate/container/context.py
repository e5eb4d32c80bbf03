"""What of a container's folder decides on its bytes: the files that a build sees, with modes and links.

The rules of .dockerignore: Docker's reference, "Building best practices / .dockerignore files", and
moby/patternmatcher. buildah reads .containerignore first (containerignore(5)); BuildKit, and buildah too, an
ignore file of the Dockerfile's own name before that of the folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcstate.container import declared
from hpcstate.digest import file_digest
from hpcstate.model.container import Container

_NOTES = (".md", ".pyc")
"""Of a folder that nothing is copied from: notes for people, and what a test leaves."""

_NOTHING = re.compile(r"(?!)")
"""For what is no pattern, as the engine will say; until then nothing is left out."""

Rules = Sequence[tuple[re.Pattern[str], bool]]
"""Patterns of what is left out, in their order; those with True take something back in."""


def entries(container: Container) -> dict[str, str]:
    """What decides, by its path below the containers' folder: of a file mode and digest, of a link its
    target, of a folder its mode. What no engine sees is left out, unless it says or tries what is built.

    Raises OSError when a file cannot be read.
    """
    at = declared.folder(container.name)
    copied = container.route in ("dockerfile", "definition")
    ignored = _ignored(at, container.file) if container.route == "dockerfile" else []
    found = {}
    for path in _walked(at):
        name = path.relative_to(at).as_posix()
        seen = copied or not _is_note(name)
        if ignored and all(left_out(name, rules) for rules in ignored):
            seen = False
        if seen or _decides(name, container):
            found[f"{container.name}/{name}"] = _said(path, exact=copied)
    return {name: said for name, said in found.items() if said}


def rules(text: str) -> Rules:
    """The patterns of an ignore file."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        back = pattern.startswith("!")
        pattern = os.path.normpath(pattern.removeprefix("!").strip())
        found.append((_expression(pattern.lstrip("/")), back))
    return found


def left_out(name: str, among: Rules) -> bool:
    """Whether the path ``name`` (from the context's root) is left out: the last pattern counts that is one
    for it or for a folder above it.
    """
    parts = name.split("/")
    ways = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    found = False
    for expression, back in among:
        if found == back and any(expression.fullmatch(way) for way in ways):
            found = not back
    return found


def _expression(pattern: str) -> re.Pattern[str]:
    """``*`` and ``?`` stop at a slash, ``**`` does not (moby/patternmatcher, Pattern.compile)."""
    made, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
                made += "(?:.*/)?"
            else:
                made += ".*"
            continue
        character = pattern[at]
        end = pattern.find("]", at + 2)
        if character == "[":
            if end < 0:
                return _NOTHING
            made += pattern[at : end + 1]
            at = end
        elif character == "\\" and at + 1 < len(pattern):
            at += 1
            made += re.escape(pattern[at])
        else:
            made += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        at += 1
    try:
        return re.compile(made, re.DOTALL)
    except re.error:
        return _NOTHING


def _ignored(at: Path, file: str) -> list[Rules]:
    """The patterns by each engine's choice of the ignore file: what one of them sees is seen."""
    found = []
    for ends in ((".dockerignore",), (".containerignore", ".dockerignore")):
        names = [*(f"{file}{end}" for end in ends), *ends]
        chosen = next((at / name for name in names if (at / name).is_file()), None)
        found.append(rules(chosen.read_text(encoding="utf-8", errors="replace")) if chosen else [])
    return found


def _decides(name: str, container: Container) -> bool:
    """Whether the file ``name`` says what is built or is part of how that is tried."""
    if name in ("container.yaml", container.file, container.wheels, container.archive):
        return True
    if name.endswith((".dockerignore", ".containerignore")):
        return True
    scripts = [Path(test.script) for test in container.tests if test.script]
    return any(
        name == script.as_posix()
        or (script.parent != Path() and Path(name).is_relative_to(script.parent) and not _is_note(name))
        for script in scripts
    )


def _is_note(name: str) -> bool:
    return name.endswith(_NOTES)


def _walked(at: Path) -> Iterator[Path]:
    """All that lies below ``at``, sorted; links are not followed."""
    for folder, folders, files in os.walk(at):
        folders.sort()
        for name in sorted([*folders, *files]):
            yield Path(folder, name)


def _said(path: Path, *, exact: bool) -> str:
    """What is at ``path``, in one line; empty for what is neither file, link nor folder. Without ``exact``,
    of a mode only whether it can be executed.
    """
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return f"link {path.readlink()}"
    if stat.S_ISDIR(status.st_mode):
        return f"folder {mode:o}" if exact else ""
    if not stat.S_ISREG(status.st_mode):
        return ""
    return f"{mode:o} {file_digest(path)}" if exact else f"{'x' if mode & 0o100 else '-'} {file_digest(path)}"
