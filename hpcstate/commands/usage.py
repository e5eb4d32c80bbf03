"""``hpcstate usage``: who had how much of a cluster."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpcstate.commands.arguments import add_cluster_file
from hpcstate.errors import HpcstateError
from hpcstate.terminal import table

if TYPE_CHECKING:
    from hpcstate.model import Cluster
    from hpcstate.slurm.job_use import JobUse
    from hpcstate.slurm.usage import Usage

SINCE = "30d"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``usage``."""
    parser = subparsers.add_parser(
        "usage",
        help="GPU and CPU hours by account and user, or what one job used",
        description="What the jobs of a cluster had, as its accounting recorded it (docs/accounting.md): by "
        "account and user, or of one job what it had against what it used. Changes nothing.",
    )
    add_cluster_file(parser)
    parser.add_argument(
        "--since",
        type=_since,
        default=SINCE,
        metavar="TIME",
        help="from then on: 12h, 30d, 2w, or 2026-11-01[T08:00] by the controller's clock (default: "
        f"{SINCE}); of a job that ran longer the time within counts",
    )
    parser.add_argument(
        "--user", type=_name, action="append", default=[], metavar="NAME", help="only theirs (repeatable)"
    )
    parser.add_argument(
        "--account", type=_name, action="append", default=[], metavar="NAME", help="only in it (repeatable)"
    )
    parser.add_argument("--job", type=_job, metavar="NUMBER", help="what this job had, and what it used")
    parser.add_argument("--json", action="store_true", help="for programs")
    # Nothing is changed: it leaves no log.
    parser.set_defaults(run=_usage, cluster_names=lambda args: [])


def _since(text: str) -> str:
    from hpcstate.slurm.usage import starttime

    try:
        return starttime(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"12h, 30d, 2w or 2026-11-01[T08:00] is expected, not {text!r}"
        ) from None


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name")
    return text


def _job(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise argparse.ArgumentTypeError(f"the number of a job is expected, not {text!r}")
    return int(text)


def _usage(args: argparse.Namespace) -> int:
    from hpcstate.schema import load
    from hpcstate.slurm import usage

    cluster = load(args.file).cluster("hpc")
    if cluster is None:
        raise HpcstateError(
            "the file describes no Slurm cluster, and nobody else records jobs",
            where=str(args.file),
            hint="a Slurm cluster is described under clusters.hpc",
        )
    if args.job is not None:
        found = usage.parse_job(_ask(cluster, usage.job_command(args.job)), args.job)
        if found is None:
            raise HpcstateError(
                f"job {args.job} is not recorded",
                where=cluster.name,
                hint="`sacct` on the controller lists what is; a job from before accounting was on is not",
            )
        print(json.dumps(job_dict(found), indent=1) if args.json else job_text(found))
        return 0
    text = _ask(cluster, usage.sums_command(args.since, args.user, args.account))
    rows = usage.parse_sums(text)
    print(json.dumps([asdict(row) for row in rows], indent=1) if args.json else sums_text(rows))
    return 0


def _ask(cluster: Cluster, command: str) -> str:
    """What ``command`` prints on the controller, as root: others may not see all jobs (PrivateData)."""
    from hpcstate.node.ssh import Live

    with Live(cluster) as live:
        answer = live.run(cluster.controller.name, command, user="root", timeout=150, check=False)
    if answer.code:
        hint = "the cluster file has no accounting of its own: `accounting: {enabled: true}`, then `./hpc up`"
        if "Invalid user" in answer.stderr:
            hint = "the controller does not know that user: `getent passwd NAME` there"
        elif cluster.accounting.on:
            hint = "`hpcstate check FILE --suite accounting` tells what is down"
        raise HpcstateError(
            f"sacct on {cluster.controller.name} ended with {answer.code}: "
            f"{answer.stderr.strip() or 'it said nothing'}",
            where=cluster.name,
            hint=hint,
        )
    return answer.stdout


def sums_text(rows: list[Usage]) -> str:
    """The rows as a table, with their sum."""
    if not rows:
        return "no job had anything of the cluster in that time"
    lines = [
        (row.account or "-", row.user or "-", str(row.jobs), f"{row.cpu_hours:.1f}", f"{row.gpu_hours:.1f}")
        for row in rows
    ]
    jobs, cpus, gpus = (
        sum(row.jobs for row in rows),
        sum(row.cpu_hours for row in rows),
        sum(row.gpu_hours for row in rows),
    )
    lines.append(("all", "", str(jobs), f"{cpus:.1f}", f"{gpus:.1f}"))
    return table(("ACCOUNT", "USER", "JOBS", "CPU HOURS", "GPU HOURS"), lines)


def job_text(found: JobUse) -> str:
    """What one job had, and what it used, a line each."""
    used = found.memory_used
    lines = [
        f"job {found.job} of {found.user or '-'} in {found.account or '-'}: {found.state}",
        f"  time    {_clock(found.elapsed_s)} of {_clock(found.limit_s)}",
        f"  CPUs    {found.cpus}, {_share(found.cpu_share)} of their time used",
        f"  memory  {_gib(found.memory)}, "
        + (f"{_gib(used)} used ({_share(found.memory_share)})" if used is not None else "use not measured"),
        f"  GPUs    {found.gpus}; how busy they were is not recorded",
    ]
    return "\n".join(lines if found.gpus else lines[:-1])


def job_dict(found: JobUse) -> dict[str, Any]:
    """The same for programs: seconds, bytes, and shares between 0 and 1."""
    return {**asdict(found), "cpu_share": found.cpu_share, "memory_share": found.memory_share}


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def _clock(seconds: int | None) -> str:
    if seconds is None:
        return "no limit"
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
