"""``hpcstate lint``: Slurm's configuration files, ours and the user's own, before a daemon reads them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate.cli import COULD_NOT_RUN, FINDINGS, OK
from hpcstate.errors import HpcstateError, Problem, format_problem

if TYPE_CHECKING:
    from hpcstate.slurm_keys import Kind


@dataclass(frozen=True)
class Linted:
    """What came of one file: its problems, or the error why it could not be looked at."""

    file: Path
    kind: Kind | None
    problems: tuple[Problem, ...] = ()
    error: HpcstateError | None = None


def register(subparsers: Any) -> None:
    """Add ``lint``."""
    parser = subparsers.add_parser(
        "lint",
        help="check slurm.conf, cgroup.conf, gres.conf and slurmdbd.conf for what Slurm 24.11 refuses",
        description="Check Slurm's configuration files for what Slurm 24.11 stops at (errors), and what it "
        "ignores or only logs (warnings). A file that is included is looked at where it is beside the file. "
        "Exit codes: 0 no errors, 1 errors (with --strict: or warnings), 2 a file could not be read.",
    )
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="a configuration file of Slurm")
    parser.add_argument(
        "--kind",
        choices=("slurm", "cgroup", "gres", "slurmdbd"),
        help="what all the files are, whatever their names say",
    )
    parser.add_argument("--strict", action="store_true", help="warnings make the exit code 1 too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Lint every file, print what was found, and tell by the exit code."""
    results = [lint_file(file, args.kind) for file in args.files]
    failing = {"error", "warning"} if args.strict else {"error"}
    severities = {problem.severity for result in results for problem in result.problems}
    code = FINDINGS if severities & failing else OK
    if any(result.error for result in results):
        code = COULD_NOT_RUN
    if args.json:
        print(json.dumps({"ok": code == OK, "files": [as_json(result) for result in results]}, indent=2))
        return code
    for result in results:
        if result.error:
            print(f"hpcstate: {result.error}", file=sys.stderr)
            continue
        for problem in result.problems:
            print(format_problem(str(result.file), problem))
        print(f"{result.file}: {_summary(result.problems)}")
    return code


def lint_file(file: Path, kind: Kind | None = None) -> Linted:
    """The problems of ``file``; ``kind`` follows from its name where it is None. Raises for no bad file."""
    from hpcstate.slurm_lint import kind_of, lint

    kind = kind or kind_of(file.name)
    if kind is None:
        hint = "say it with --kind slurm, cgroup, gres or slurmdbd"
        return Linted(
            file, None, error=HpcstateError("which file of Slurm is this?", where=str(file), hint=hint)
        )
    try:
        text = _read(file)
    except OSError as error:
        message = error.strerror or str(error)
        return Linted(
            file, kind, error=HpcstateError(message, where=str(file), hint="is this the right path?")
        )

    def read_include(name: str) -> str | None:
        """Slurm looks beside the file; another place on this machine may not be what the node has."""
        path = Path(name) if Path(name).is_absolute() else file.parent / name
        beside = path.parent.resolve() == file.parent.resolve()
        try:
            return _read(path) if beside and path.is_file() else None
        except OSError:
            return None

    return Linted(file, kind, lint(text, kind, read_include))


def as_json(result: Linted) -> dict[str, Any]:
    """The machine's view of one file; its keys stay as they are."""
    return {
        "file": str(result.file),
        "kind": result.kind,
        "error": result.error.message if result.error else None,
        "problems": [asdict(problem) for problem in result.problems],
    }


def _read(file: Path) -> str:
    """The text as Slurm sees it: bytes, of which those beyond ASCII matter in comments and values only."""
    return file.read_bytes().decode("utf-8", errors="backslashreplace")


def _summary(problems: tuple[Problem, ...]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    counts = ", ".join(
        f"{number} {word}{'s' if number > 1 else ''}"
        for number, word in ((errors, "error"), (len(problems) - errors, "warning"))
        if number
    )
    return counts if errors else f"fine{f' ({counts})' if counts else ''}"
