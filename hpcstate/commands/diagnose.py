"""``hpcstate diagnose`` and ``hpcstate report``: why a job failed, and the page of one job."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.commands.arguments import add_cluster_file
from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.diagnose.decide import Diagnosis
    from hpcstate.diagnose.record import JobRecord
    from hpcstate.diagnose.sources import Collected


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``diagnose`` and ``report``."""
    one = subparsers.add_parser(
        "diagnose",
        help="why a job failed: what was first, where, how sure, and what to do",
        description="Why a job failed: Slurm's record, the job's output, the logs of its nodes and what "
        "prolog and epilog wrote, joined (docs/diagnosis.md). Changes nothing. Exit codes: 0 the job did not "
        "fail, 1 it did, 2 it could not be looked at.",
    )
    _add_arguments(one)
    one.add_argument("--json", action="store_true", help="for programs")
    one.set_defaults(run=_diagnose)
    page = subparsers.add_parser(
        "report",
        help="one page about one job: timeline, asked and used, placement, end of its output, diagnosis",
        description="Write one page about one job, which needs no other file (docs/diagnosis.md). The end of "
        "the job's output is in it: give it to whom may read that. Exit codes as those of diagnose.",
    )
    _add_arguments(page)
    page.add_argument(
        "--output",
        type=Path,
        metavar="OUT",
        help="where to write it, - for standard output (default: build/<cluster>/jobs/JOBID.html)",
    )
    page.set_defaults(run=_report)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_file(parser)
    parser.add_argument("job", type=_job, metavar="JOBID", help="the job's number: 123, or of an array 123_4")
    # Nothing is changed: it leaves no log.
    parser.set_defaults(cluster_names=lambda args: [])


def _job(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,10}(_[0-9]{1,10})?", text):
        raise argparse.ArgumentTypeError(f"the number of a job is expected, not {text!r}")
    return text


def _diagnose(args: argparse.Namespace) -> int:
    from hpcstate.diagnose import text

    _, _, found, _ = _look(args)
    print(json.dumps(text.as_dict(found), indent=1) if args.json else text.as_text(found))
    return _code(found)


def _report(args: argparse.Namespace) -> int:
    from hpcstate.diagnose.page import page
    from hpcstate.files import write_atomically
    from hpcstate.paths import ClusterPaths, shown

    known, collected, found, name = _look(args)
    text = page(known, collected, found)
    if args.output == Path("-"):
        print(text, end="")
        return _code(found)
    path = args.output or ClusterPaths.of(name).rendered.parent / "jobs" / f"{known.label}.html"
    # It has a part of somebody's output in it.
    write_atomically(path, text, mode=0o600)
    print(shown(path))
    return _code(found)


def _look(args: argparse.Namespace) -> tuple[JobRecord, Collected, Diagnosis, str]:
    from hpcstate.diagnose.look import look
    from hpcstate.node.ssh import Live
    from hpcstate.schema import load

    cluster = load(args.file).cluster("hpc")
    if cluster is None:
        raise HpcstateError(
            "the file describes no Slurm cluster: there are no jobs",
            where=str(args.file),
            hint="a Slurm cluster is described under clusters.hpc",
        )
    with Live(cluster) as live:
        known, collected, found = look(
            live, cluster, args.job, lambda said: print(f"  {said}", file=sys.stderr)
        )
    return known, collected, found, cluster.name


def _code(found: Diagnosis) -> int:
    return 0 if found.cause.name == "none" else 1
