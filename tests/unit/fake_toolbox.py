"""Apptainer as far as the builder asks: it writes small SIF files and answers for labels and commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.run import Result
from tests.unit.sif_files import write_sif

Run = Callable[[Sequence[str]], tuple[int, str]]


def succeed(_: Sequence[str]) -> tuple[int, str]:
    """Every command in a container ends well and says nothing."""
    return 0, ""


@dataclass
class FakeToolbox:
    """``size`` is that of the file system in what it builds, in bytes; ``run`` answers for commands in the
    container; ``fails`` maps one of Apptainer's commands to the words with which it fails.
    """

    root: Path | None = None
    size: int = 1000
    run: Run = succeed
    fails: Mapping[str, str] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    definition: str = ""

    def at(self, path: Path, binds: Mapping[Path, str]) -> str:
        return str(path)

    sealed: bool = True
    contained: tuple[str, ...] = ("--contain",)

    def words(
        self,
        argv: Sequence[str | Path],
        binds: Mapping[Path, str],
        plain: Mapping[Path, str] | None = None,
    ) -> list[str | Path]:
        """For spython, which runs the command itself: one that prints the answer."""
        words = [str(word) for word in argv if str(word) not in ("apptainer", "--silent")]
        self.calls.append(words)
        code, out = self._answer(words)
        return ["sh", "-c", f'printf %s "$0"; exit {code}', out]

    def apptainer(
        self,
        argv: Sequence[str | Path],
        *,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = True,
        hint: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        words = [str(word) for word in argv if str(word) != "--silent"]
        self.calls.append(words)
        code, out = self._answer(words)
        if check and code:
            raise HpcstateError(f"apptainer {words[0]} exited with {code}:\n    {out}", hint=hint)
        if on_line:
            for line in out.splitlines():
                on_line(line)
        return Result(tuple(words), code, "" if code else out, out if code else "")

    def commands(self) -> list[str]:
        """Apptainer's commands so far, in order."""
        return [words[0] for words in self.calls]

    def _answer(self, words: list[str]) -> tuple[int, str]:
        if words[0] in self.fails:
            return 255, self.fails[words[0]]
        if words[0] == "build":
            self.definition = Path(words[-1]).read_text()
            write_sif(Path(words[-2]), b"x" * self.size)
        if words[0] == "inspect":
            return 0, json.dumps({"data": {"attributes": {"labels": self._labels()}}})
        if words[0] == "exec":
            at = next(number for number, word in enumerate(words) if word.endswith(".sif"))
            return self.run(words[at + 1 :])
        return 0, ""

    def _labels(self) -> dict[str, str]:
        section = self.definition.partition("%labels\n")[2].partition("\n%")[0]
        pairs = (line.split(maxsplit=1) for line in section.splitlines() if line.strip())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
