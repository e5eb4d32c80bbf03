"""What is wrong with a Slurm configuration file as a whole: keys that need or exclude each other.

Each rule names the function of Slurm 24.11.5 that stops or complains. Names of nodes and partitions are in
nodes.py, devices in gres.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.keys import Kind
from hpcstate.slurm.lint import (
    defaults,
    gres,
    nodes,
    other_files,
    partitions,
    slurmdbd,
    start,
    topology,
    tres,
)
from hpcstate.slurm.read import Statement, Whole, number


def problems(kind: Kind, statements: Sequence[Statement], fragment: bool = False) -> list[Problem]:
    """The problems of a whole file of ``kind``; of a ``fragment`` nothing is missing for certain."""
    whole = Whole.of(statements)
    whole = replace(whole, complete=whole.complete and not fragment)
    rules: dict[Kind, Sequence[Callable[[Whole], Iterator[Problem]]]] = {
        "slurm": (
            _controller,
            defaults.problems,
            tres.tres_problems,
            start.problems,
            nodes.problems,
            partitions.problems,
        ),
        "cgroup": (_cgroup,),
        "gres": (gres.problems,),
        "slurmdbd": (slurmdbd.problems,),
        "job_container": (_job_container,),
        "mpi": (),
        "topology": (topology.problems,),
        "acct_gather": (other_files.acct_gather,),
        "helpers": (other_files.helpers,),
        "oci": (other_files.oci,),
    }
    return [problem for rule in rules[kind] for problem in rule(whole)]


def _controller(whole: Whole) -> Iterator[Problem]:
    """ClusterName and the controllers (_validate_and_set_defaults, _load_slurmctld_host)."""
    hosts = whole.named("SlurmctldHost")
    if whole.complete and not whole.value("ClusterName"):
        part = "" if hosts else "; a part that slurm.conf includes is linted with --fragment"
        yield whole.problem("ClusterName", "is missing: the daemons stop", f"write ClusterName=name{part}")
    if whole.complete and not hosts and not whole.value("ControlMachine"):
        hint = "write SlurmctldHost=name(address)"
        yield whole.problem("SlurmctldHost", "is missing: the daemons stop", hint)
    seen: set[str] = set()
    for host in hosts:
        if not re.fullmatch(r"[^()]*(\([^()]*\))?", host.name):
            yield host.problem("SlurmctldHost", "is not name(address): the daemons stop", "close the bracket")
        name = host.name.partition("(")[0]
        if not re.fullmatch(r"\s*[A-Za-z0-9_.-]+\s*", name):
            # src/slurmctld/controller.c, main: the names are compared with the host's, as they are.
            what = "is empty" if not name.strip() else f"{name} is the name of no host"
            message = f"{what}: slurmctld stops on each"
            hint = "write SlurmctldHost=name(address), one line for each host"
            yield host.problem("SlurmctldHost", message, hint)
        if name in seen:
            yield host.problem("SlurmctldHost", f"{name} is given twice: the daemons stop", "remove one line")
        seen.add(name)


def _cgroup(whole: Whole) -> Iterator[Problem]:
    if number(whole.value("MemorySwappiness"), 0) > 100:
        message = "is more than 100: Slurm logs an error and takes 100"
        yield whole.problem("MemorySwappiness", message, severity="warning")


def _job_container(whole: Whole) -> Iterator[Problem]:
    """src/plugins/job_container/tmpfs/read_jcconf.c, _read_slurm_jc_conf."""
    for record in whole.named("NodeName"):
        if why := refusal(record.name):
            message = f"{why}: slurmd logs an error, and the line is of no node"
            yield record.problem("NodeName", message, "write it as compute-[01-04,07]", "warning")
    for begins in ("BasePath", "NodeName"):
        for record in whole.named(begins):
            base = record.name if begins == "BasePath" else record.attributes.get("basepath", "")
            if not base:
                hint = "write BasePath=path"
                yield record.problem("BasePath", "is missing on this line: slurmd stops", hint)
            if base and base != "none" and not base.startswith("/"):
                message = "is no absolute path: slurmd logs errors, and jobs have no folder of their own"
                yield record.problem("BasePath", message, "write the whole path", "warning")
            dirs = record.attributes.get("dirs") or whole.value("Dirs") or "/tmp,/dev/shm"
            if base.lower() in dirs.lower().split(","):
                # Debian's slurmd compares with its node's name behind it, and does not see it.
                message = f"{base} is one of Dirs too: it would be hidden from the jobs"
                yield record.problem("BasePath", message, "take a folder that is none of them", "warning")
