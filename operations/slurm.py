"""Slurm on a node: its configuration files, its daemons, drain and resume.

The files that should be there are compared with those in /etc/slurm and with a copy of those that the running
daemon was last started with; hpcstate.slurm.impact says what the difference asks for, and no more is done. A
node whose slurmd has to be restarted is drained first, and its jobs are waited for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.gpu import GpuDevices
from facts.slurm import SlurmDaemons, SlurmFiles, SlurmFilesRead, SlurmJobs, SlurmNodes
from hpcstate.gpu import mig
from hpcstate.node.managed import Managed
from hpcstate.probe.slurm import SlurmDaemon, SlurmNode
from hpcstate.slurm import change as slurm_change
from hpcstate.slurm.change import Act
from hpcstate.slurm.conf import CONF_DIRECTORY
from hpcstate.slurm.gres import DeclaredGres, assign_declared
from hpcstate.slurm.impact import Impact, Level, owed
from operations import gres
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import has_failed, stop_host, write_file
from operations.util.difference import FileWritten
from operations.util.drain import (
    DRAIN_SECONDS,
    drain_and_wait,
    drain_command,
    is_drained,
    is_invalid,
    listed,
    resume_ours,
)

Commands = Generator[PyinfraCommand, None, None]

NO_GPUS = DeclaredGres()

CONTROLLER_SECONDS = 60
REGISTRATION_SECONDS = 180

MANAGED = (
    Managed(
        "slurm.files",
        "Slurm's configuration, in its file and in its daemon",
        "/etc/slurm/slurm.conf, cgroup.conf, gres.conf, job_container.conf, mpi.conf",
        "content, against the cluster file and against the copy of what the daemon was last told",
        "mended",
    ),
    Managed(
        "slurm.daemons",
        "slurmctld or slurmd runs, and starts at boot; that of another role does neither",
        "slurmctld.service, slurmd.service",
        "systemctl show",
        "mended",
    ),
    Managed(
        "slurm.registration",
        "slurmctld has accepted what the node registered with",
        "slurmd",
        "INVALID_REG in `scontrol show nodes`",
        "mended",
        "a slurmctld that refuses what it accepted",
    ),
    Managed(
        "slurm.drain",
        "a drain of ours that is no longer needed",
        "slurmctld",
        "its reason begins with `hpcstate: `; any other is left alone, and told by -v",
        "mended",
    ),
)


@dataclass(frozen=True)
class Pending:
    """What is still to do: ``files`` to write in place of ``current``, the ``impact`` on the daemon as it
    runs, and whether the record of what it runs with is complete. Falsy when there is nothing to do.
    """

    files: Mapping[str, str]
    current: Mapping[str, str]
    impact: Impact
    recorded: bool

    def __bool__(self) -> bool:
        return bool(self.files) or not self.recorded


@operation()
def controller_daemon(files: Mapping[str, str], *, force: bool = False) -> Commands:
    """slurmctld runs with ``files`` (name to content of /etc/slurm) and starts at boot.

    Does the least that the change asks for: nothing, ``scontrol reconfigure``, restart. What must not change
    under jobs (a node's cores or GRES, the state directory) stops the host while jobs hold the nodes
    concerned, unless ``force``. When slurmctld refuses the files, the old ones come back.
    """
    pending = _pending(files, "slurmctld")
    daemons = host.get_fact(SlurmDaemons)
    daemon = daemons["slurmctld"]
    if not daemon["installed"]:
        yield stop_host("slurmctld is not installed: the image of this node lacks it")
        return
    _show(pending.files, pending.current)
    yield from _turn_off("slurmd", daemons["slurmd"])
    if not pending and daemon["active"] and daemon["enabled"]:
        host.noop("slurmctld runs with the configuration of the cluster")
        return
    if daemon["active"] and not force and (said := _under_jobs(pending)):
        yield stop_host(said)
        return
    level = pending.impact.slurmctld if daemon["active"] else None
    yield from _stage(pending.files)
    yield _change("slurmctld", files, pending, daemon, _act(level, "reconfigure"), wait_s=CONTROLLER_SECONDS)


@operation()
def demand_vacant(files: Mapping[str, str], *, force: bool = False) -> Commands:
    """Stops the controller where ``controller_daemon`` with the same arguments would refuse to change
    slurmctld under jobs: before GPUs and slurmd of the nodes that could be vacated are changed."""
    active = host.get_fact(SlurmDaemons)["slurmctld"]["active"]
    if active and not force and (said := _under_jobs(_pending(files, "slurmctld"))):
        yield stop_host(said)
        return
    host.noop("no job stands in the way of a change of slurmctld")


@operation()
def keep(
    node: str, files: Mapping[str, str], declared: DeclaredGres = NO_GPUS, *, controller: str
) -> Commands:
    """Where the host ``controller`` was stopped, what ``compute_daemon`` with the same arguments would change
    on ``node`` stays as it is, and this host is stopped: a slurmd of ours that was stopped for the change
    runs again, and takes jobs.

    A node with other GRES than slurmctld has read would be INVALID (node_mgr.c, validate_node_specs).
    """
    if not has_failed(controller) or not _pending(_expected(node, files, declared), "slurmd"):
        host.noop(f"{node} goes on")
        return
    yield from _stay(node, controller)


@operation()
def vacate(
    node: str,
    files: Mapping[str, str],
    declared: DeclaredGres = NO_GPUS,
    *,
    timeout_s: float = DRAIN_SECONDS,
    force: bool = False,
) -> Commands:
    """Before the controller changes: when ``compute_daemon`` with the same arguments will have to restart
    slurmd, ``node`` is drained, its jobs have ended, and slurmd is stopped.

    So it is too when its GPUs have to be split into other MIG instances, which operations.mig does next.

    Stopped, because a slurmd with old GRES would make its node INVALID under the new slurm.conf, and Slurm
    would put a reason of its own in the place of ours (node_mgr.c, validate_node_specs), which we never lift.
    """
    pending = _pending(_expected(node, files, declared), "slurmd")
    slurmd = host.get_fact(SlurmDaemons)["slurmd"]
    # One that starts as its node boots would be there with the old GRES a moment later.
    comes = slurmd["active"] or slurmd["enabled"]
    split = [] if declared.simulated or not declared else mig.different(declared, host.get_fact(GpuDevices))
    if not comes or (pending.impact.slurmd(node) < Level.RESTART and not split):
        host.noop(f"{node} need not be drained")
        return
    why = f"MIG instances of {', '.join(split)}" if split else pending.impact.why(node)
    if not force:
        known = host.get_fact(SlurmNodes).get(node)
        yield from drain_and_wait(node, known, why, timeout_s)
    yield StringCommand("systemctl stop slurmd")


@operation()
def compute_daemon(
    node: str,
    files: Mapping[str, str],
    declared: DeclaredGres = NO_GPUS,
    *,
    timeout_s: float = DRAIN_SECONDS,
    registration_s: int = REGISTRATION_SECONDS,
    force: bool = False,
    controller: str = "",
) -> Commands:
    """slurmd of ``node`` runs with ``files`` and a gres.conf of the GPUs it really has, starts at boot, and
    is registered with slurmctld.

    ``declared`` are the GPUs that the cluster file promises: fewer stop this host, with nothing changed. When
    slurmd must be restarted, the node is drained and its jobs are waited for at most ``timeout_s`` seconds
    (not with ``force``); a drain of ours is lifted at the end, that of somebody else stays. When slurmd does
    not start, or slurmctld does not accept what it registers with, the old files come back, and the node
    stays drained with the reason. A node that slurmctld has as INVALID_REG registers again. Where the host
    ``controller`` failed in this run, nothing is changed: slurmctld has other files than ``files``.
    """
    assignment = gres.observed(node, declared)
    if assignment.problem:
        yield from gres.refuse(assignment)
        return
    desired = {**files, "gres.conf": assignment.text}
    pending = _pending(desired, "slurmd")
    daemons = host.get_fact(SlurmDaemons)
    daemon = daemons["slurmd"]
    if not daemon["installed"]:
        yield stop_host("slurmd is not installed: the image of this node lacks it")
        return
    if pending and controller and has_failed(controller):
        yield from _stay(node, controller)
        return
    _show(pending.files, pending.current)
    yield from _turn_off("slurmctld", daemons["slurmctld"])
    known = host.get_fact(SlurmNodes).get(node) if daemon["active"] else None
    invalid = is_invalid(known)
    if not pending and not invalid and daemon["active"] and daemon["enabled"]:
        yield from resume_ours(node, known, f"slurmd of {node} runs with the configuration of the cluster")
        return
    level = pending.impact.slurmd(node) if daemon["active"] else None
    if level is not None and invalid:
        level = max(level, Level.RESTART)
    if level is not None and level >= Level.RESTART and not force:
        yield from drain_and_wait(node, known, pending.impact.why(node) or "registers again", timeout_s)
    yield from _stage(pending.files)
    yield _change(
        "slurmd",
        desired,
        pending,
        daemon,
        _act(level, "reload"),
        wait_s=None if level is Level.NONE else registration_s,
        node=node,
        gpus=declared.count,
    )
    yield from resume_ours(
        node,
        host.get_fact(SlurmNodes).get(node),
        f"{node} was not drained by hpcstate",
        grew="gres.conf" in pending.files,
    )


@operation()
def submit_host(files: Mapping[str, str]) -> Commands:
    """This host has ``files`` (name to content of /etc/slurm) for Slurm's commands, and runs no daemon of
    Slurm. Such a host stands nowhere in slurm.conf: who has the configuration and the munge key may submit
    (slurm.conf(5), AllocNodes).
    """
    daemons = host.get_fact(SlurmDaemons)
    current = host.get_fact(SlurmFiles, directory=CONF_DIRECTORY)
    missing = {name: content for name, content in files.items() if current.get(name) != content}
    units = ("slurmctld", "slurmd", "slurmdbd")
    on = [
        unit for unit, daemon in daemons.items() if unit in units and (daemon["active"] or daemon["enabled"])
    ]
    if not missing and not on:
        host.noop("Slurm's commands have the configuration of the cluster")
        return
    _show(missing, current)
    for unit in on:
        yield from _turn_off(unit, daemons[unit])
    for name, content in missing.items():
        yield write_file(f"{CONF_DIRECTORY}/{name}", content)


@operation()
def drain(node: str, reason: str) -> Commands:
    """``node`` takes no new jobs, for ``reason``, which is given our prefix. Any drain stays as it is.

    The next deploy lifts it: for a drain that lasts, use scontrol and a reason of your own.
    """
    known = host.get_fact(SlurmNodes).get(node)
    if known is None:
        yield stop_host(f"slurmctld does not answer, or has no node {node}: it cannot be drained")
        return
    if is_drained(known):
        host.noop(f"{node} is already drained: {known['reason']}")
        return
    yield drain_command(node, reason)


@operation()
def resume(node: str) -> Commands:
    """``node`` takes jobs again if the drain is ours; a drain that somebody else set is never lifted."""
    known = host.get_fact(SlurmNodes).get(node)
    yield from resume_ours(node, known, f"{node} is not drained by hpcstate")


def _stay(node: str, controller: str) -> Commands:
    """slurmd as it was before ``vacate``, and the end of the run for this host."""
    slurmd = host.get_fact(SlurmDaemons)["slurmd"]
    if slurmd["enabled"]:
        if not slurmd["active"]:
            yield StringCommand("systemctl start slurmd")
        known = host.get_fact(SlurmNodes).get(node)
        if known is not None and is_drained(known):
            yield from resume_ours(node, known, f"{node} was not drained by hpcstate")
    yield stop_host(
        f"slurmctld was not changed, for {controller} was stopped: GPUs and Slurm of {node} stay as they were"
    )


def _under_jobs(pending: Pending) -> str:
    """Why ``pending`` must not be done to slurmctld now; empty where no job stands in the way."""
    if not (holders := _holders(pending.impact)):
        return ""
    held = ", ".join(f"{node} (jobs {listed(jobs)})" for node, jobs in holders.items())
    return (
        f"this change must not be made under running jobs: {pending.impact.why()}.\n"
        f"Jobs still hold {held}. Wait for them and deploy again; the nodes are drained by "
        "deploys/full_stack.py. Nothing of Slurm was changed on this node."
    )


def _expected(node: str, files: Mapping[str, str], declared: DeclaredGres) -> Mapping[str, str]:
    """The files that ``compute_daemon`` will want, before operations.gpu has made what is declared.

    Without gres.conf where real GPUs are missing: ``compute_daemon`` will stop then and change nothing.
    """
    assignment = assign_declared(node, declared) if declared.simulated else gres.observed(node, declared)
    if assignment.problem:
        return files
    return {**files, "gres.conf": assignment.text}


def _pending(desired: Mapping[str, str], daemon: str) -> Pending:
    """The difference between ``desired`` and this host, whose ``daemon`` reads it. Files that we do not know
    are left alone.
    """
    current = host.get_fact(SlurmFiles, directory=CONF_DIRECTORY)
    applied = host.get_fact(SlurmFiles, directory=slurm_change.APPLIED)
    read = host.get_fact(SlurmFilesRead, directory=CONF_DIRECTORY)
    return Pending(
        files={name: content for name, content in desired.items() if current.get(name) != content},
        current=current,
        impact=owed(applied, current, read[daemon], desired),
        recorded=all(applied.get(name) == content for name, content in desired.items()),
    )


def _show(files: Mapping[str, str], current: Mapping[str, str]) -> None:
    difference.show(
        FileWritten(f"{CONF_DIRECTORY}/{name}", content, before=current.get(name))
        for name, content in files.items()
    )


def _stage(files: Mapping[str, str]) -> Iterable[PyinfraCommand]:
    for name, content in files.items():
        yield write_file(f"{slurm_change.STAGED}/{name}", content)


def _act(level: Level | None, reconfigure: Act) -> Act:
    """What is done to a daemon for ``level``, None where it does not run; ``reconfigure`` is its own way of
    reading its files again."""
    acts: Mapping[Level | None, Act] = {None: "start", Level.NONE: "", Level.RECONFIGURE: reconfigure}
    return acts.get(level, "restart")


def _change(
    unit: str,
    files: Mapping[str, str],
    pending: Pending,
    daemon: SlurmDaemon,
    act: Act,
    *,
    wait_s: int | None,
    node: str = "",
    gpus: int = 0,
) -> StringCommand:
    return StringCommand(
        slurm_change.change(
            unit,
            list(files),
            list(pending.files),
            act,
            wait_s=wait_s,
            enable=daemon["active"] and not daemon["enabled"],
            node=node,
            gpus=gpus,
        )
    )


def _turn_off(unit: str, daemon: SlurmDaemon) -> Iterable[PyinfraCommand]:
    """The daemon of the other role: one image serves both, and slurm.conf would let it start at boot."""
    if daemon["active"] or daemon["enabled"]:
        yield StringCommand(f"systemctl disable --quiet --now {unit}")


def _holders(change: Impact) -> dict[str, list[int]]:
    """The jobs on each node that ``change`` must not be made under, as slurmctld knows them."""
    known: dict[str, SlurmNode] = host.get_fact(SlurmNodes) if change.changes else {}
    jobs = {node: host.get_fact(SlurmJobs, node=node) for node in change.drained_nodes(known)}
    return {node: held for node, held in jobs.items() if held}
