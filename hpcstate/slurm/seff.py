"""``seff JOB`` on the nodes: what a job used of what it had, in the words of the one that comes with Slurm.

Debian has no package of it. Standard library only: the installed file is hpcstate/slurm/job_use.py with this
one behind it (hpcstate.node.work_files), so that the rules are those of ``hpcstate usage``.
"""

from __future__ import annotations

import re
import subprocess
import sys

from hpcstate.slurm.job_use import JobUse, parse_job, sacct_words

USAGE = "usage: seff JOBID (123, or of an array 123_4): what a job used of what it had"
SECONDS = 60
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def main(arguments: list[str]) -> int:
    """Print what is known of the job. Exit codes: 0, 1 where it is not recorded, 2 where nobody answers."""
    if len(arguments) != 1 or not re.fullmatch(r"[0-9]{1,10}(_[0-9]{1,10})?", arguments[0]):
        print(USAGE, file=sys.stdout if arguments in (["-h"], ["--help"]) else sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    job = arguments[0]
    try:
        done = subprocess.run(
            sacct_words(job), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"seff: sacct does not answer: {error}", file=sys.stderr)
        return 2
    if done.returncode:
        said = done.stderr.strip() or f"it ended with {done.returncode}"
        print(f"seff: sacct does not answer: {said}", file=sys.stderr)
        return 2
    try:
        found = parse_job(done.stdout, job)
    except ValueError as error:
        print(f"seff: this is no answer of sacct 24.11: {error}", file=sys.stderr)
        return 2
    if found is None:
        print(f"seff: job {job} is not recorded", file=sys.stderr)
        return 1
    print(report(found))
    return 0


def report(found: JobUse) -> str:
    """The lines that users of seff know."""
    state = (found.state.split() or ["UNKNOWN"])[0]
    lines = [
        f"Job ID: {found.job}",
        *([f"Array Job ID: {found.array_job}"] if found.array_job else []),
        f"Cluster: {found.cluster}",
        f"User/Group: {found.user}/{found.group}",
        f"State: {state} (exit code {found.exit_code})",
    ]
    if state in _WAITING or not found.cpus:
        return "\n".join([*lines, f"Efficiency not available for jobs in the {state} state."])
    walltime = found.cpus * found.elapsed_s
    lines += [
        f"Nodes: {found.nodes}",
        f"Cores per node: {found.cpus // max(1, found.nodes)}",
        f"CPU Utilized: {clock(found.cpu_s)}",
        f"CPU Efficiency: {percent(found.cpu_share)} of {clock(walltime)} core-walltime",
        f"Job Wall-clock time: {clock(found.elapsed_s)}",
    ]
    if found.memory_used is None:
        lines.append("Memory Utilized: not measured, which is done every 30 s and noted when a step ends")
    else:
        lines += [
            f"Memory Utilized: {size(found.memory_used)}",
            f"Memory Efficiency: {percent(found.memory_share)} of {size(found.memory)}",
        ]
    if state == "RUNNING":
        lines.append("WARNING: the job runs: what its steps use is noted when they end.")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """``[D-]HH:MM:SS``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02}:{minute:02}:{second:02}"


def percent(share: float | None) -> str:
    """A share between 0 and 1 in percent."""
    return f"{(share or 0) * 100:.2f}%"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of one or more."""
    units = ["KB", "MB", "GB", "TB", "PB"]
    count /= 1024
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.2f} {units[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
