"""The files of one folder together: each by itself, then what one says of another.

Pure: texts by name in, problems by name out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

from hpcstate.errors import Problem
from hpcstate.slurm.keys import Kind
from hpcstate.slurm.lint import node_gres, other_files, topology
from hpcstate.slurm.lint.conf import kind_of, lint
from hpcstate.slurm.read import ReadInclude, Whole, statements

_WAITS = "slurmctld waits a minute for it, and stops"
_NEEDED = (
    ("TopologyPlugin", "topology/(tree|block)", "topology.conf", _WAITS),
    ("NodeFeaturesPlugins", ".*helpers", "helpers.conf", _WAITS),
    ("BurstBufferType", "(.*,)?(burst_buffer/)?lua(,.*)?", "burst_buffer.lua", "slurmctld stops without it"),
    ("JobSubmitPlugins", "(.*,)?(job_submit/)?lua(,.*)?", "job_submit.lua", "slurmctld stops without it"),
    ("JobCompType", "jobcomp/lua", "jobcomp.lua", "slurmctld stops without it"),
    ("JobContainerType", "job_container/tmpfs", "job_container.conf", "slurmd stops without it"),
)
"""Keys of slurm.conf, their values, and the file that must be beside it (init of the plugins)."""

_READ_WHERE: Mapping[Kind, tuple[str, str]] = {
    "topology": ("TopologyPlugin", "topology/(tree|block)"),
    "helpers": ("NodeFeaturesPlugins", ".*helpers"),
    "job_container": ("JobContainerType", ".*tmpfs"),
    "gres": ("GresTypes", ".+"),
}
"""Files that Slurm reads only where slurm.conf asks for them."""


def lint_files(
    texts: Mapping[str, str],
    read_include: Callable[[str], ReadInclude] | None = None,
    beside: Callable[[str], bool] | None = None,
) -> dict[str, tuple[Problem, ...]]:
    """The problems of each file of a folder, by its name or path; files of no known kind are left out.

    ``read_include`` gives what reads the Includes of a file by its name; without it, all that there is is in
    ``texts``. ``beside`` says whether a file is in the folder of slurm.conf; by default those of ``texts``.
    """
    include = read_include or (lambda name: _only_in(texts))
    kinds = {name: kind for name in texts if (kind := kind_of(PurePath(name).name))}
    found = {name: list(lint(texts[name], kind, include(name))) for name, kind in kinds.items()}
    named: dict[Kind, str] = {}
    for name, kind in kinds.items():
        named.setdefault(kind, name)
    if "slurm" in named:
        wholes = {
            kind: Whole.of(tuple(statements(texts[name], kind, include(name))))
            for kind, name in named.items()
        }
        for kind, problem in _joined(wholes):
            found[named[kind]].append(problem)
        present = beside or {PurePath(name).name for name in texts}.__contains__
        found[named["slurm"]] += _missing(wholes["slurm"], present)
        found[named["slurm"]] += _no_default(wholes["slurm"])
        for kind, name in named.items():
            found[name] = _unless_unread(kind, found[name], wholes["slurm"])
    return {name: tuple(sorted(set(some))) for name, some in found.items()}


def _only_in(texts: Mapping[str, str]) -> ReadInclude:
    def read(name: str) -> str | None:
        if name not in texts and "/" not in name:
            raise FileNotFoundError(name)
        return texts.get(name)

    return read


def _joined(wholes: Mapping[Kind, Whole]) -> Iterator[tuple[Kind, Problem]]:
    slurm = wholes["slurm"]
    if "gres" in wholes:
        for kind, problem in node_gres.problems(slurm, wholes["gres"]):
            yield ("slurm" if kind == "slurm" else "gres"), problem
    if "topology" in wholes:
        yield from (("topology", some) for some in topology.problems_with(wholes["topology"], slurm))
    if "acct_gather" in wholes:
        yield from (
            ("acct_gather", some) for some in other_files.acct_gather_with(wholes["acct_gather"], slurm)
        )
    if "cgroup" in wholes:
        yield from (("slurm", some) for some in _cgroup(slurm, wholes["cgroup"]))


def _cgroup(slurm: Whole, cgroup: Whole) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, read_slurm_conf; src/interfaces/cgroup.c, cgroup_memcg_job_confinement."""
    constrains = any(
        cgroup.value(key) in ("yes", "up", "true", "1") for key in ("ConstrainRAMSpace", "ConstrainSwapSpace")
    )
    if cgroup.value("CgroupPlugin") == "disabled":
        # src/plugins/task/cgroup/task_cgroup.c, init; src/interfaces/cgroup.c, cgroup_g_initialize. slurmd's.
        for key in ("ProctrackType", "TaskPlugin", "JobAcctGatherType"):
            if "cgroup" in (slurm.value(key) or ("proctrack/cgroup" if key == "ProctrackType" else "")):
                message = "uses control groups, and cgroup.conf says CgroupPlugin=disabled: slurmd stops"
                yield slurm.problem(key, message, "take another plugin, or remove CgroupPlugin")
    kills = "overmemorykill" in slurm.value("JobAcctGatherParams").split(",")
    if kills and constrains and "cgroup" in slurm.value("TaskPlugin"):
        message = (
            "OverMemoryKill excludes Constrain...Space=yes of cgroup.conf with task/cgroup: the daemons stop"
        )
        yield slurm.problem("JobAcctGatherParams", message, "remove OverMemoryKill")


def _missing(slurm: Whole, present: Callable[[str], bool]) -> Iterator[Problem]:
    for key, pattern, name, what in _NEEDED:
        if re.fullmatch(pattern, slurm.value(key)) and not present(name):
            hint = f"put {name} beside slurm.conf"
            if name == "topology.conf" and present("topology.yaml"):
                hint = "topology.yaml is new in Slurm 25.05: write topology.conf"
            yield slurm.problem(key, f"needs {name}, which is not there: {what}", hint)
    keys = ("slurm.key", "slurm.jwks")
    own = (key for key in ("AuthType", "CredType") if re.fullmatch("((auth|cred)/)?slurm", slurm.value(key)))
    needs = next(own, "")
    if needs and not any(map(present, keys)):
        # src/plugins/auth/slurm/internal.c, init_internal. A warning: a secret lies on the nodes alone.
        message = "auth/slurm needs slurm.key beside slurm.conf on each node: without it the daemons stop"
        yield slurm.problem(needs, message, "make one with 1024 random bytes, mode 0600", "warning")
    if present("topology.yaml") and slurm.value("TopologyPlugin") not in ("topology/tree", "topology/block"):
        message = "topology.yaml is new in Slurm 25.05: 24.11 does not read it"
        yield slurm.problem("TopologyPlugin", message, "write topology.conf", "warning")


def _no_default(slurm: Whole) -> Iterator[Problem]:
    """src/slurmctld/read_config.c, _build_bitmaps_pre_select: "default partition not set". Not a rule of
    slurm.conf alone: nothing is wrong with such a file, and clusters have it on purpose.
    """
    partitions = slurm.named("PartitionName")
    defaults = (record.attributes.get("default", "").lower() for record in partitions)
    if slurm.complete and partitions and not {"yes", "up", "true", "1"} & set(defaults):
        message = "no partition is the default: a job that names none is refused, slurmctld logs an error"
        yield partitions[0].problem("Default", message, "write Default=YES on one of them", "warning")


def _unless_unread(kind: Kind, found: list[Problem], slurm: Whole) -> list[Problem]:
    """Problems of a file that Slurm does not read stop nothing."""
    key, pattern = _READ_WHERE.get(kind, ("", ""))
    if not key or not slurm.complete or re.fullmatch(pattern, slurm.value(key)):
        return found
    note = f"not read, as {key} of slurm.conf does not ask for it"
    return [replace(problem, severity="warning", hint=note) for problem in found]
