"""The lines of a definition as Apptainer 1.4.5 reads them: its stages, their headers and their sections.

The rules are those of its pkg/build/types/parser/deffile.go (All, doHeader, parseTokenSection) and, for
``%files``, of internal/pkg/build/stage.go. What is right here is what its program does:
tests/containers/test_definitions.py compares.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FROM_A_STAGE = "files from a stage"
"""The part of a line that names no file of the host's."""

LONGEST = 64 * 1024
"""Bytes of a section with the line that ends it: Go's bufio.MaxScanTokenSize."""

SYLABS = "https://library.sylabs.io"
"""The library that `library://` means by Singularity; Apptainer comes with none (its user guide, "Managing
remote endpoints")."""

_HEADER = re.compile(r"^\s*([A-Za-z]\w*)\s*:\s*([^#]*?)\s*(#.*)?$")
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE)
_SECTION = re.compile(r"^\s*%(\S*)\s*(.*?)\s*$")


class DefinitionLine(NamedTuple):
    """A line with its number and the section that it is in (``part``, empty: the header); of the start of a
    section (``%post``) or a line of the header (``from``) the key and the value.
    """

    number: int
    text: str
    part: str
    key: str
    value: str


@dataclass(frozen=True)
class DefinitionStage:
    """A stage: the number of its first line; of its header each key with its line and value, where of a key
    that comes twice the last counts; and the number of its first section's line (0: it has none).
    """

    number: int
    header: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    section: int = 0

    def of(self, key: str) -> str:
        """The value of ``key``, empty where the header has none."""
        return self.header.get(key, (0, ""))[1]

    @property
    def image(self) -> str:
        """What it starts from, with the registry and the namespace that Apptainer puts before the name
        (conveyorPacker_oci.go).
        """
        name = self.of("from")
        if self.of("bootstrap") == "docker":
            parts = (self.of("registry").rstrip("/"), self.of("namespace").rstrip("/"), name.lstrip("/"))
            return "/".join(part for part in parts if part)
        return name


def scanned(lines: Sequence[str]) -> Iterator[DefinitionLine]:
    """Each of ``lines``. A further `Bootstrap:` at the start of a line begins the next stage, whatever it
    stands in; files from a stage are not the host's.
    """
    section = ""
    for number, line in enumerate(_joined(lines), 1):
        key, value = "", ""
        if entered := _SECTION.match(line):
            section, value = entered[1].lower().lstrip("%"), entered[2]
            key = f"%{section}"
            if section == "files" and copied_from(line) is not None:
                section = FROM_A_STAGE
        elif (header := _HEADER.match(line)) and (not section or _STAGE.match(line)):
            section, key, value = "", header[1].lower(), header[2]
        yield DefinitionLine(number, line, section, key, value)


def stages(lines: Sequence[str]) -> list[DefinitionStage]:
    """The stages of ``lines``, one at least. What stands before the first `Bootstrap:` is a stage of its own,
    unless it is nothing but comments.
    """
    starts, sections = [1], [0]
    headers: list[dict[str, tuple[int, str]]] = [{}]
    for number, text, _, key, value in scanned(lines):
        if _STAGE.match(text):
            if headers[-1] or sections[-1]:
                starts.append(number)
                headers.append({})
                sections.append(0)
            else:
                starts[-1] = number
        if key.startswith("%"):
            sections[-1] = sections[-1] or number
        elif key:
            headers[-1][key] = (number, value)
    return [DefinitionStage(*each) for each in zip(starts, headers, sections, strict=True)]


def without_commands(lines: Sequence[str], names: Collection[str]) -> set[int]:
    """The numbers of the lines of those sections ``names`` that have nothing but comments and empty lines."""
    found: set[int] = set()
    block: set[int] = set()
    idle = False
    for number, text, _, key, _ in scanned(lines):
        if key.startswith("%") or _STAGE.match(text):
            found |= block if idle else set()
            block, idle = set(), text.startswith("%") and key.removeprefix("%") in names
        elif text.strip() and not text.lstrip().startswith("#"):
            idle = False
        block.add(number)
    return found | (block if idle else set())


def copied_from(line: str) -> str | None:
    """The stage that ``%files`` with what stands behind it copies from: empty where Apptainer finds none and
    copies nothing, None where the files are the host's. Any word serves for "from".
    """
    words = line.lstrip("%").partition(" ")[2].partition("#")[0]
    if not words:
        return None
    found = words.split()
    return found[1] if len(found) == 2 else ""


def too_long(lines: Sequence[str]) -> Iterator[int]:
    """The numbers of the lines at which a part begins that is longer than Apptainer can read."""
    start, size = 1, 0
    for number, line in enumerate(lines, 1):
        length = len(line.encode(errors="surrogateescape")) + 1
        ends = _SECTION.match(line)
        if size + (length if ends else 0) > LONGEST:
            yield start
        if ends or _STAGE.match(line):
            start, size = number, 0
        size += length
    if size >= LONGEST:
        yield start


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
    r"""``lines`` with what continues a line of a header in that line, by the reader of Apptainer (doHeader);
    there are as many as before. A comment, an empty line, a section or a stage ends it too early, and behind
    a value that is empty so far there is another keyword: then the line keeps its ``\``.
    """
    waiting: list[str] = []
    text, header = "", True
    for line in lines:
        plain = line.partition("#")[0].strip() if header else ""
        starts = bool(_SECTION.match(line) or _STAGE.match(line))
        if waiting and (starts or not plain):
            yield from [text + "\\", *waiting[1:]]
            waiting, text = [], ""
        header = bool(_STAGE.match(line)) or (header and not _SECTION.match(line))
        continued = plain.endswith("\\") and plain.partition(":")[2].strip() != "\\"
        if header and (waiting or continued):
            plain = line.partition("#")[0].strip()
            text += plain.removesuffix("\\")
            waiting.append("")
            if not plain.endswith("\\"):
                yield from [text, *waiting[1:]]
                waiting, text = [], ""
        else:
            yield line
    if waiting:
        yield from [text + "\\", *waiting[1:]]
