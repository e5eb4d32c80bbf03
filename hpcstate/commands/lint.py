"""``hpcstate lint``: Slurm's configuration files, ours and the user's own, before a daemon reads them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate import hostlist
from hpcstate.cli import COULD_NOT_RUN, FINDINGS, OK
from hpcstate.errors import HpcstateError, Problem, format_problem

if TYPE_CHECKING:
    from hpcstate.slurm.keys import Kind


_KINDS = (
    *("slurm", "cgroup", "gres", "slurmdbd", "job_container", "mpi"),
    *("topology", "acct_gather", "helpers", "oci"),
)
_BESIDE = (
    "gres.conf",
    "cgroup.conf",
    "topology.conf",
    "acct_gather.conf",
    "helpers.conf",
    "job_container.conf",
    "mpi.conf",
    "oci.conf",
)
_PROGRAMS = ("job_submit.lua", "burst_buffer.lua", "jobcomp.lua", "cli_filter.lua")
"""Scripts that the daemons read beside slurm.conf."""
_TEMPLATE = re.compile(r"^[^#\n]*(\{\{.*?\}\}|\{%.*?%\}|<%.*?%>)", re.MULTILINE)
"""Of Jinja, Go and ERB. In oci.conf it may be an argument of the runtime (docker inspect --format)."""
_PLACEHOLDER = re.compile(r"^[^#\n]*=\s*\"?(\{\w+\}|@\w+@|\$\{?\w+)", re.MULTILINE)
"""In a file that is called a template by its name; else it may be what somebody forgot to fill in."""
_TEMPLATES = (".j2", ".jinja", ".jinja2", ".erb", ".epp", ".tmpl", ".tpl", ".template", ".in")
_ALIKE = 3
"""More problems than this that differ by their line alone are printed as one."""
_DECLINED = {
    "topology.yaml": "it is new in Slurm 25.05, and 24.11 reads topology.conf",
    "namespace.yaml": "it is new in Slurm 25.11, and 24.11 reads job_container.conf",
    "resources.yaml": "it is new in Slurm 25.05, and 24.11 does not read it",
    "plugstack.conf": "it names SPANK plugins and their own arguments",
    "burst_buffer.conf": "its keys are those of the plugin that BurstBufferType names",
    "knl_generic.conf": "it is for Xeon Phi, which Slurm 25.11 drops",
    "fake_gpus.conf": "it is for tests of Slurm",
    "job_submit.lua": "it is a program",
    "cli_filter.lua": "it is a program",
    "burst_buffer.lua": "it is a program",
    "jobcomp.lua": "it is a program",
}
"""Files of Slurm that are known and not linted, and why."""


@dataclass(frozen=True)
class Linted:
    """What came of one file: its problems, or the error why it could not be looked at."""

    file: Path
    kind: Kind | None
    problems: tuple[Problem, ...] = ()
    error: HpcstateError | None = None
    text: str = ""


def register(subparsers: Any) -> None:
    """Add ``lint``."""
    parser = subparsers.add_parser(
        "lint",
        help="check slurm.conf, cgroup.conf, gres.conf and others for what Slurm 24.11 refuses",
        description="Check Slurm's configuration files for what Slurm 24.11 stops at (errors), and what it "
        "ignores or only logs (warnings). With a slurm.conf, the files beside it are read as well "
        "(gres.conf, cgroup.conf, topology.conf and others), for what one says of the other; so are files "
        "that they include and that lie there. "
        "With --image, Slurm's daemons read the files as well. "
        "Exit codes: 0 no errors, 1 errors (with --strict: or warnings), 2 a file could not be read.",
    )
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="a configuration file of Slurm")
    parser.add_argument(
        "--kind",
        choices=_KINDS,
        help="what all the files are, whatever their names say",
    )
    parser.add_argument(
        "--image",
        help="let slurmctld and slurmd of a built image (hpc-base, or a .qcow2) read the files together; "
        "needs a slurm.conf among them",
    )
    parser.add_argument(
        "--fragment",
        action="store_true",
        help="the files are parts that another one includes: what that one may have is not missed",
    )
    parser.add_argument("--strict", action="store_true", help="warnings make the exit code 1 too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Lint every file, print what was found, and tell by the exit code."""
    results = lint_all(args.files, args.kind, args.fragment)
    if args.image:
        from hpcstate.judge.judge import JudgeUnavailableError

        try:
            results = judged(results, args.image)
        except JudgeUnavailableError as error:
            results.append(Linted(Path(args.image), None, error=error))
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
        for problem in _folded(result.problems):
            print(format_problem(str(result.file), problem))
        print(f"{result.file}: {_summary(result.problems)}")
    return code


def _folded(problems: Sequence[Problem]) -> list[Problem]:
    """Errors before warnings; of more than _ALIKE that differ by line and record alone, the first speaks."""
    alike: dict[tuple[str, str, str, str], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: problem.is_warning):
        key = problem.place.rpartition(" ")[2].partition("=")[0]
        alike.setdefault((problem.severity, key, problem.message, problem.hint), []).append(problem)
    found: list[Problem] = []
    for first, *rest in alike.values():
        if len(rest) < _ALIKE:
            found += [first, *rest]
            continue
        lines = hostlist.ranges({problem.line for problem in rest} - {first.line})
        where = f", on lines {lines}" if lines else ""
        found.append(replace(first, message=f"{first.message} ({len(rest)} more like it{where})"))
    return found


def lint_all(files: Sequence[Path], kind: Kind | None = None, fragment: bool = False) -> list[Linted]:
    """What comes of each file, in their order, then of those beside a slurm.conf that have problems.

    A slurm.conf is read with the files beside it, and with those named that are of another kind; a
    ``fragment`` is not, nor are files of a ``kind`` that is said.
    """
    from hpcstate.slurm.lint.together import lint_files

    results = [_read_file(file, kind) for file in files]
    if kind or fragment:
        return [_alone(linted, fragment) for linted in results]
    fine = [linted for linted in results if not linted.error]
    alone = {linted.file: _alone(linted) for linted in fine}
    more: list[Linted] = []
    for slurm in (linted for linted in fine if linted.kind == "slurm"):
        folder = slurm.file.parent
        group = {slurm.kind: slurm}
        for linted in fine:
            if linted.kind not in group and (linted.file.parent == folder or _only_one(fine)):
                group[linted.kind] = linted
        for name in _BESIDE:
            if kind_of_name(name) not in group and (folder / name).is_file():
                linted = _read_file(folder / name)
                if not linted.error:
                    group[linted.kind] = linted
        found = lint_files(
            {str(linted.file): linted.text for linted in group.values()},
            lambda name: lambda included: _included(Path(name), included),
            _is_beside(folder, [linted.file.name for linted in group.values()]),
        )
        for linted in group.values():
            problems = found[str(linted.file)]
            if linted.file in alone:
                alone[linted.file] = replace(linted, problems=problems)
                continue
            more += [replace(linted, problems=problems)] if problems else []
    return [alone.get(linted.file, linted) for linted in results] + more


def _only_one(results: Sequence[Linted]) -> bool:
    """Whether there is one slurm.conf among the files, which all others then belong to."""
    return sum(linted.kind == "slurm" for linted in results) == 1


def _is_beside(folder: Path, named: Sequence[str]) -> Callable[[str], bool]:
    return lambda name: name in named or (folder / name).exists()


def _alone(linted: Linted, fragment: bool = False) -> Linted:
    from hpcstate.slurm.lint.conf import lint

    if linted.error or linted.kind is None:
        return linted
    problems = lint(linted.text, linted.kind, lambda name: _included(linted.file, name), fragment)
    return replace(linted, problems=problems)


def _read_file(file: Path, kind: Kind | None = None) -> Linted:
    """``file`` with its text; ``kind`` follows from its name where it is None. Raises for no bad file."""
    from hpcstate.slurm.lint.conf import kind_of

    kind = kind or kind_of(file.name)
    if kind is None and not file.exists():
        hint = "is this the right path?"
        return Linted(file, None, error=HpcstateError("there is no such file", where=str(file), hint=hint))
    if kind is None and file.name in _DECLINED:
        message = f"{file.name} is not linted: {_DECLINED[file.name]}"
        return Linted(file, None, error=HpcstateError(message, where=str(file)))
    if kind is None:
        hint = f"say it with --kind {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        return Linted(
            file, None, error=HpcstateError("which file of Slurm is this?", where=str(file), hint=hint)
        )
    try:
        text = _read(file)
        by_name = file.suffix.lower() in _TEMPLATES
        if (_TEMPLATE.search(text) and (kind != "oci" or by_name)) or (by_name and _PLACEHOLDER.search(text)):
            message = "this is a template: Slurm reads what is made of it"
            hint = "lint the file that the template is rendered to"
            return Linted(file, kind, error=HpcstateError(message, where=str(file), hint=hint))
        return Linted(file, kind, text=text)
    except OSError as error:
        message = error.strerror or str(error)
        return Linted(
            file, kind, error=HpcstateError(message, where=str(file), hint="is this the right path?")
        )


def judged(results: list[Linted], image: str) -> list[Linted]:
    """``results`` with what Slurm's daemons of ``image`` say of the files together (hpcstate.judge.judge).

    Raises HpcstateError without a slurm.conf, and when the daemons cannot be asked.
    """
    from hpcstate.judge import judge
    from hpcstate.judge.case import configuration_of_files

    by_kind = {linted.kind: linted for linted in results if linted.kind and not linted.error}
    if "slurm" not in by_kind:
        raise HpcstateError(
            "the daemons read nothing without a slurm.conf", hint="name it with the other files"
        )
    slurm = by_kind["slurm"].file
    for name in _BESIDE:
        if kind_of_name(name) not in by_kind and (slurm.parent / name).is_file():
            linted = _read_file(slurm.parent / name)
            if linted.kind and not linted.error:
                by_kind[linted.kind] = linted
    texts = {kind: linted.text or _read(linted.file) for kind, linted in by_kind.items()}
    files = configuration_of_files(texts, lambda name: _included(slurm, name))
    scripts = {name: _read(slurm.parent / name) for name in _PROGRAMS if (slurm.parent / name).is_file()}
    files = replace(files, files={**files.files, **scripts})
    said: dict[Path, set[Problem]] = {}
    for name, problems in judge.judge(files, judge.image_named(image)).problems.items():
        file = by_kind[kind].file if (kind := kind_of_name(name)) in by_kind else slurm.parent / name
        said.setdefault(file, set()).update(problems)
    known = [
        replace(linted, problems=(*linted.problems, *sorted(said.pop(linted.file, set()))))
        for linted in results
    ]
    return known + [Linted(file, None, tuple(sorted(some))) for file, some in said.items()]


def kind_of_name(name: str) -> Kind | None:
    """The kind of a file of the judge: ``gres.conf of n1`` is a gres.conf."""
    from hpcstate.slurm.lint.conf import kind_of

    return kind_of(name.partition(" ")[0])


def _included(file: Path, name: str) -> str | None:
    """The text of what ``file`` includes. Slurm looks beside the file; another place on this machine may not
    be what the node has, so of an absolute path its end is looked for here: ``conf.d/nodes.conf``, then
    ``nodes.conf`` for /etc/slurm/conf.d/nodes.conf. Raises FileNotFoundError where a plain name is not there.
    """
    if "/" not in name and not (file.parent / name).exists():
        raise FileNotFoundError(name)
    parts = Path(os.path.normpath(name)).parts
    ends = [parts] if parts[0] != "/" else [parts[at:] for at in range(1, len(parts))]
    for end in ends:
        path = file.parent.joinpath(*end)
        if end[0] != ".." and path.is_file():
            try:
                return _read(path)
            except OSError:
                return None
    return None


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
