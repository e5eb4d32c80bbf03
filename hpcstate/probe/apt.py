"""apt on a host: where its packages come from, and which versions it would install."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

_OPTION_NAMES = {"arch": "Architectures", "lang": "Languages", "target": "Targets", "pdiffs": "PDiffs"}
"""Options of the one-line format whose deb822 name is not their own in capitals (sources.list(5))."""


class AptSource(TypedDict):
    """One entry of binary packages that is enabled. ``path`` is the file that has it; ``options`` are the
    other fields by their deb822 names (``Signed-By``), a value of several lines with its indentation.
    """

    path: str
    uris: list[str]
    suites: list[str]
    components: list[str]
    options: dict[str, str]


class AptSources(TypedDict):
    """``codename`` is the release of the system (``trixie``), empty when it does not tell."""

    codename: str
    sources: list[AptSource]


class AptVersions(TypedDict):
    """A package's versions; empty where it is not installed, or apt knows none to install."""

    installed: str
    candidate: str


def sources_command(root: str = "") -> str:
    """The program apt_sources.sh; ``root`` is put before each path."""
    return programs.command(Path(__file__).with_name("apt_sources.sh"), root=root)


def parse_sources(text: str) -> AptSources:
    """The enabled entries of type ``deb``, in apt's order.

    Raises HpcstateError for a line that ``sources_command`` does not print, and an entry that lacks a field.
    """
    codename, files = "", dict[str, list[str]]()
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("VERSION_CODENAME="):
            codename = line.partition("=")[2].strip("\"'")
        elif line.startswith("file "):
            lines = files.setdefault(line.removeprefix("file "), [])
        elif line.startswith("|") and lines is not None:
            lines.append(line[1:])
        else:
            raise HpcstateError(f"this is nothing about apt's sources: {line!r}")
    found: list[AptSource] = []
    for path, content in files.items():
        found += _deb822(path, content) if path.endswith(".sources") else _one_line(path, content)
    return AptSources(codename=codename, sources=found)


def versions_command(packages: Sequence[str]) -> str:
    """apt's policy for ``packages``, in the lists that it has."""
    return f"apt-cache policy {' '.join(shlex.quote(name) for name in packages)} 2>/dev/null || :"


def parse_versions(text: str) -> dict[str, AptVersions]:
    """The versions by package; packages that apt has never heard of are not among them.

    Raises HpcstateError when there are no versions under a name.
    """
    found: dict[str, AptVersions] = {}
    for block in re.split(r"\n(?=\S)", text.strip("\n")) if text.strip() else []:
        name, _, rest = block.partition(":\n")
        installed = re.search(r"^  Installed: (.*)$", rest, re.MULTILINE)
        candidate = re.search(r"^  Candidate: (.*)$", rest, re.MULTILINE)
        if installed is None or candidate is None:
            raise HpcstateError(f"this is no answer of apt-cache policy: {block.splitlines()[0]!r}")
        found[name] = AptVersions(installed=_version(installed[1]), candidate=_version(candidate[1]))
    return found


def _version(word: str) -> str:
    return "" if word == "(none)" else word


def _one_line(path: str, lines: Sequence[str]) -> Iterator[AptSource]:
    """``deb [option=value …] uri suite component…`` (sources.list(5), ONE-LINE-STYLE FORMAT)."""
    for line in lines:
        entry = line.partition("#")[0].strip()
        match = re.fullmatch(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<rest>.+)", entry)
        if match is None:
            continue
        options = {}
        for word in (match["options"] or "").split():
            key, _, value = word.partition("=")
            options[_option_name(key)] = value.replace(",", " ")
        suite, *components = match["rest"].split()
        yield AptSource(
            path=path, uris=[match["uri"]], suites=[suite], components=components, options=options
        )


def _option_name(key: str) -> str:
    return _OPTION_NAMES.get(key) or "-".join(word.capitalize() for word in key.split("-"))


def _deb822(path: str, lines: Sequence[str]) -> Iterator[AptSource]:
    """Stanzas of fields; a line that begins with a blank belongs to the field above (deb822(5))."""
    for stanza in "\n".join(line for line in lines if not line.startswith("#")).split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and key:
                fields[key] += f"\n{line}"
            elif line.strip():
                key, _, value = line.partition(":")
                key = _field_name(key)
                fields[key] = value.strip()
        if not fields or fields.pop("Enabled", "yes").lower() in ("no", "false", "0", "off"):
            continue
        try:
            types, uris, suites = (fields.pop(name).split() for name in ("Types", "URIs", "Suites"))
        except KeyError as error:
            raise HpcstateError(f"an entry has no {error.args[0]}", where=path) from error
        components = fields.pop("Components", "").split()
        if "deb" in types:
            yield AptSource(path=path, uris=uris, suites=suites, components=components, options=fields)


def _field_name(name: str) -> str:
    """Field names do not distinguish capitals (deb822(5))."""
    known = {"uris": "URIs", "pdiffs": "PDiffs"}
    return known.get(name.strip().lower()) or _option_name(name.strip().lower())
