"""``hpcstate validate``: a cluster file by itself, and against this host."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcstate.cli import COULD_NOT_RUN, FINDINGS, OK
from hpcstate.commands.arguments import add_cluster_file
from hpcstate.errors import (
    HpcstateError,
    Problem,
    ProblemsError,
    UnreadableFileError,
    format_problem,
    line_of,
)
from hpcstate.terminal import plural

if TYPE_CHECKING:
    from hpcstate.model import Cluster, Description


def register(subparsers: Any) -> None:
    """Add ``validate``."""
    parser = subparsers.add_parser(
        "validate",
        help="check a cluster file, and whether this host can run it",
        description="Check a cluster file by itself and against this host. Warnings alone are exit code 0.",
    )
    add_cluster_file(parser)
    parser.add_argument(
        "--skip-pcie-validation", action="store_true", help="do not look for PCI devices on this host"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """All problems of the file; if it has no errors, also those between it and this host."""
    from hpcstate.schema import load

    description = None
    code = OK
    try:
        description = load(args.file)
        problems = (*description.warnings, *_findings(description, not args.skip_pcie_validation))
    except ProblemsError as error:
        problems = error.problems
        code = COULD_NOT_RUN if isinstance(error, UnreadableFileError) else FINDINGS
    if any(problem.severity == "error" for problem in problems):
        code = code or FINDINGS
    problems = tuple(sorted(problems))
    if args.json:
        print(json.dumps(as_json(args.file, problems, ok=code == OK), indent=2))
        return code
    for problem in problems:
        print(format_problem(str(args.file), problem))
    print(_summary(args.file, problems, description))
    return code


def as_json(file: Path, problems: tuple[Problem, ...], *, ok: bool) -> dict[str, Any]:
    """The machine's view of a validation; its keys stay as they are."""
    return {
        "file": str(file),
        "ok": ok,
        "problems": [
            {
                "line": problem.line,
                "place": problem.place,
                "severity": problem.severity,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in problems
        ],
    }


def _findings(description: Description, pcie_devices: bool) -> tuple[Problem, ...]:
    from hpcstate.hypervisor import fit

    found = fit.host_findings(description, fit.host_state(pcie_devices=pcie_devices))
    return (*found, *_template_findings(description))


def _template_findings(description: Description) -> Iterator[Problem]:
    """Templates of a site that fail when they are rendered."""
    from hpcstate.cluster.rendered import demand_templates

    for cluster in description.clusters:
        try:
            demand_templates(cluster)
        except HpcstateError as error:
            place = f".clusters.{cluster.kind}.site.templates"
            line = line_of(description.lines, place)
            yield Problem(line, place, f"{error.where}: {error.message}", error.hint)


def _summary(file: Path, problems: tuple[Problem, ...], description: Description | None) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    counts = ", ".join(
        plural(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number
    )
    if errors or description is None:
        return f"{file}: {counts}"
    about = "; ".join(_about(cluster) for cluster in description.clusters)
    return f"{file}: fine{f' ({counts})' if counts else ''}: {about}"


def _about(cluster: Cluster) -> str:
    simulated = sum(node.simulated_gpus.count for node in cluster.nodes if node.simulated_gpus)
    real = sum(len(node.gres_types) for node in cluster.nodes) - simulated
    gpus = [f"{real} GPUs"] * bool(real) + [f"{simulated} simulated GPUs"] * bool(simulated)
    return f"{cluster.name} ({cluster.kind}): " + ", ".join([plural(len(cluster.nodes), "node"), *gpus])
