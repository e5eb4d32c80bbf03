"""What the user sees when something is wrong: what, where, and the next step."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


class HpcstateError(Exception):
    """A condition the user can act on. The command line prints it without a traceback and exits with 2.

    ``where`` is the place in the user's terms (``.compute_nodes[2].gpus[0]``, a path, a node);
    ``hint`` is the next step.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


def from_os(error: OSError) -> HpcstateError:
    """What the system refused (no space, no permission, a path gone), as a message with the path."""
    hints = {
        errno.ENOSPC: "free some space; what was there before stays, and the same command can be run again",
        errno.EACCES: "is this file or folder of another user? an earlier run as root makes such files",
        errno.ENOENT: "",
        errno.EISDIR: "a file is wanted here, not a folder",
        errno.ENOTDIR: "a folder is wanted here, not a file",
        errno.EROFS: "the file system is read-only: has the kernel found an error? see dmesg",
    }
    hint = hints.get(error.errno or 0, "the next run starts it again")
    if "No usable temporary directory" in str(error):
        # tempfile.gettempdir() tries to write in each of them.
        hint = "`df /tmp`: is it full? TMPDIR names another folder"
    return HpcstateError(error.strerror or str(error), where=str(error.filename or ""), hint=hint)


@dataclass(frozen=True, order=True)
class Problem:
    """One finding about a file the user wrote.

    ``line`` is 1-based, 0 where there is none; ``place`` is the path inside the file
    (``.clusters.hpc.compute_nodes[2].ip``).
    """

    line: int
    place: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    @property
    def is_warning(self) -> bool:
        """Whether one can go on with it."""
        return self.severity == "warning"


def problem_at(place: str, message: str, hint: str, is_warning: bool = False) -> Problem:
    """A problem of a place of the file, whose line is not known yet (:func:`line_of`)."""
    return Problem(0, place, message, hint, "warning" if is_warning else "error")


def line_of(lines: Mapping[str, int], place: str) -> int:
    """The line of ``place`` by the index ``lines``; of the nearest place around it when it is not there.

    So a key that is missing has the line of the section that lacks it. 0 without an index.
    """
    while place and place not in lines:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    return lines.get(place or ".", 0)


class ProblemsError(HpcstateError):
    """All the problems of one file at once. The command line prints each and exits with 1."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems))
        lines = "\n".join(format_problem(path, problem) for problem in self.problems)
        super().__init__(lines)


class UnreadableFileError(ProblemsError):
    """The file could not be read at all: missing, a directory, no permission. The command exits with 2."""


def format_problem(path: str, problem: Problem) -> str:
    """One problem as a person reads it: ``file:line: place: message`` and the hint below."""
    position = f"{path}:{problem.line}" if problem.line else path
    place = "" if problem.place == "." else f"{problem.place}: "  # the file as a whole
    text = f"{position}: {problem.severity}: {place}{problem.message}"
    return f"{text}\n    hint: {problem.hint}" if problem.hint else text
