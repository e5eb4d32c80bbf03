"""Which files of the registry are in use: opened by a process of a node, or named by a job.

What Apptainer runs is held open as long as it runs: by squashfuse without suid (its file descriptor), by a
loop device with it (sysfs). A path in a command line is one that is about to be opened. A job that waits is
known by its batch script and by its --container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.registry.layout import ROOT, is_container_file

_JOB = re.compile(r"/job_(\d+)(?:/|$)")


def node_command(root: str = ROOT, proc: str = "/proc", sys: str = "/sys") -> str:
    """For a node, as root: the program use.sh, with the places of the registry, proc and sysfs."""
    words = (root, re.escape(root) + "/[^[:cntrl:] ]+")
    return programs.command(Path(__file__).with_name("use.sh"), arguments=words, proc=proc, sys=sys)


def jobs_command(root: str = ROOT) -> str:
    """For the controller, as root: the program use_jobs.sh. It fails when slurmctld does not answer."""
    words = (re.escape(root) + "/[^[:cntrl:][:blank:]\"';|&]+",)
    return programs.command(Path(__file__).with_name("use_jobs.sh"), arguments=words)


def parse(node: str, text: str, root: str = ROOT) -> dict[str, str]:
    """Who uses what, by what :func:`node_command` printed on ``node``, or :func:`jobs_command`.

    File below the registry to words for people. Raises HpcstateError for a line that they do not print.
    """
    found: dict[str, str] = {}
    asked: set[str] = set()
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "process":
            number, _, rest = rest.partition(" ")
            group, _, path = rest.partition(" ")
            job = _JOB.search(group)
            who = f"job {job[1]} on {node}" if job else f"process {number} on {node}"
        elif kind == "loop":
            who, path = f"a loop device of {node}", rest
        elif kind == "asked":
            asked.add(rest)
            continue
        elif kind == "job":
            number, _, path = rest.partition(" ")
            if number not in asked:
                continue  # a job that has ended is kept a while (slurm.conf(5), MinJobAge)
            who = f"job {number}, whose script names it"
        elif kind == "given":
            number, _, path = rest.partition(" ")
            who = f"job {number}, which waits for it or runs it"
        else:
            raise HpcstateError(f"this is no use of a container: {line!r}", where=node)
        # A removed file that is still open is shown with this suffix (proc(5), /proc/pid/fd).
        file = path.removesuffix(" (deleted)").removeprefix(f"{root}/")
        if is_container_file(file):
            found.setdefault(file, who)
    return found


def merged(uses: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The uses of all nodes as one: of several users of a file, the first is named."""
    found: dict[str, str] = {}
    for by_file in uses.values():
        for file, who in by_file.items():
            found.setdefault(file, who)
    return found
