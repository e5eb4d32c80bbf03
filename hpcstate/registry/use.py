"""Which files of the registry are in use: opened by a process of a node, or named by a job.

What Apptainer runs is held open as long as it runs: by squashfuse without suid (its file descriptor), by a
loop device with it (sysfs). A path in a command line is one that is about to be opened. A job that waits is
known by its batch script and by its --container.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from hpcstate.errors import HpcstateError
from hpcstate.registry.layout import ROOT, is_container_file

_JOB = re.compile(r"/job_(\d+)(?:/|$)")


def node_command(root: str = ROOT, proc: str = "/proc", sys: str = "/sys") -> str:
    """For a node, as root: a line for each use, with process, path and control group.

    A process that ends while it is looked at is no error.
    """
    top = shlex.quote(root)
    return (
        f"{{ find {proc}/[0-9]*/fd -mindepth 1 -maxdepth 1 -lname {top}/'*' -printf '%h %l\\n' 2>/dev/null; "
        f"grep -aHoE {shlex.quote(re.escape(root) + '/[^[:cntrl:] ]+')} {proc}/[0-9]*/cmdline 2>/dev/null "
        "| sed 's|/cmdline:| |'; } "
        '| while read -r p f; do p=${p%/fd}; g=; [ ! -r "$p/cgroup" ] || IFS= read -r g <"$p/cgroup"; '
        'printf \'process %s %s %s\\n\' "${p##*/}" "$g" "$f"; done; '
        f'for l in {sys}/block/loop*/loop/backing_file; do [ -r "$l" ] || continue; IFS= read -r f <"$l"; '
        f'case "$f" in {top}/*) printf \'loop %s\\n\' "$f";; esac; done; :'
    )


def jobs_command(root: str = ROOT) -> str:
    """For the controller, as root: the paths that batch scripts of jobs name which wait or run, and those
    that they were submitted with (squeue(1), -O Container).

    The scripts are read where slurmctld keeps them (slurm.conf(5), StateSaveLocation), all at once; those of
    an array are kept under the number of the array (squeue(1), %F). Fails when slurmctld does not answer.
    """
    path = shlex.quote(re.escape(root) + "/[^[:cntrl:][:blank:]\"';|&]+")
    return (
        "state=$(timeout 30 scontrol show config | sed -n 's/^StateSaveLocation *= *//p'); "
        '[ -n "$state" ] || exit 1; '
        "states=PENDING,CONFIGURING,RUNNING,SUSPENDED,REQUEUED,RESIZING,STOPPED; "
        "jobs=$(timeout 60 squeue --noheader --array --format='%A %F' --states=$states) || exit 1; "
        "given=$(timeout 60 squeue --noheader --Format=JobID:12,Container:4097 --states=$states) || exit 1; "
        'printf \'%s\\n\' "$given" | while read -r j f; do [ -z "$f" ] || echo "given $j $f"; done; '
        "for j in $(printf '%s\\n' $jobs | sort -u); do echo \"asked $j\"; done; "
        f'find "$state" -maxdepth 3 -path "*/hash.*/job.*/script" -exec grep -HaoE {path} {{}} + '
        "| sed -n 's|^.*/job\\.\\([0-9]*\\)/script:|job \\1 |p'; :"
    )


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
