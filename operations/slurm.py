"""Slurm on a node: its configuration files, its daemons, drain and resume.

The files that should be there are compared with those in /etc/slurm and with a copy of those that the running
daemon was last started with; hpcstate.slurm_impact says what the difference asks for, and no more is done. A
node whose slurmd has to be restarted is drained first, and its jobs are waited for.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from facts.slurm import SlurmDaemons, SlurmFiles, SlurmJobs, SlurmNodes
from hpcstate.gres import DeclaredGpu, assign, simulated_devices
from hpcstate.probe.slurm import SlurmDaemon, SlurmNode
from hpcstate.slurm_conf import CONF_DIRECTORY, gres_conf
from hpcstate.slurm_impact import Impact, Level, combine, impact
from operations import gres, slurm_script
from operations.commands import fail, stop_host, write_file

Commands = Generator[PyinfraCommand, None, None]

REASON_PREFIX = "hpcstate: "
"""A drain whose reason begins so is ours: a deploy may lift it. Any other is never lifted."""

DRAIN_SECONDS = 3600
REGISTRATION_SECONDS = 180
POLL_SECONDS = 5
_REASON_LENGTH = 120


@dataclass(frozen=True)
class Pending:
    """What is still to do: ``files`` to write, the ``impact`` on the daemon as it runs, and whether the
    record of what it runs with is complete. Falsy when there is nothing to do.
    """

    files: Mapping[str, str]
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
    pending = _pending(files)
    daemons = host.get_fact(SlurmDaemons)
    daemon = daemons["slurmctld"]
    if not daemon["installed"]:
        yield stop_host("slurmctld is not installed: the image of this node lacks it")
        return
    yield from _turn_off("slurmd", daemons["slurmd"])
    if not pending and daemon["active"] and daemon["enabled"]:
        host.noop("slurmctld runs with the configuration of the cluster")
        return
    if daemon["active"] and not force and (holders := _holders(pending.impact)):
        held = ", ".join(f"{node} (jobs {_listed(jobs)})" for node, jobs in holders.items())
        yield stop_host(
            f"this change must not be made under running jobs: {pending.impact.why()}.\n"
            f"Jobs still hold {held}. Wait for them and deploy again; the nodes are drained by "
            "deploys/full_stack.py. Nothing of Slurm was changed on this node."
        )
        return
    level = pending.impact.slurmctld if daemon["active"] else None
    yield from _stage(pending.files)
    act = {
        None: slurm_script.start("slurmctld"),
        Level.NONE: [],
        Level.RECONFIGURE: slurm_script.reconfigure_slurmctld(),
    }.get(level, slurm_script.restart("slurmctld"))
    yield _change("slurmctld", files, pending, daemon, act, slurm_script.wait_for_slurmctld())


@operation()
def vacate(
    node: str,
    files: Mapping[str, str],
    declared: Sequence[DeclaredGpu] = (),
    *,
    timeout_s: float = DRAIN_SECONDS,
    force: bool = False,
) -> Commands:
    """Before the controller changes: when ``compute_daemon`` with the same arguments will have to restart
    slurmd, ``node`` is drained, its jobs have ended, and slurmd is stopped.

    Stopped, because a slurmd with old GRES would make its node INVALID under the new slurm.conf, and Slurm
    would put a reason of its own in the place of ours (node_mgr.c, validate_node_specs), which we never lift.
    """
    pending = _pending(_expected(node, files, declared))
    slurmd = host.get_fact(SlurmDaemons)["slurmd"]
    if not slurmd["active"] or pending.impact.slurmd(node) < Level.RESTART:
        host.noop(f"{node} need not be drained")
        return
    yield from _drain_and_wait(node, pending.impact.why(node), timeout_s, force)
    yield StringCommand("systemctl stop slurmd")


@operation()
def compute_daemon(
    node: str,
    files: Mapping[str, str],
    declared: Sequence[DeclaredGpu] = (),
    *,
    timeout_s: float = DRAIN_SECONDS,
    registration_s: int = REGISTRATION_SECONDS,
    force: bool = False,
) -> Commands:
    """slurmd of ``node`` runs with ``files`` and a gres.conf of the GPUs it really has, starts at boot, and
    is registered with slurmctld.

    ``declared`` are the GPUs that the cluster file promises: fewer stop this host, with nothing changed. When
    slurmd must be restarted, the node is drained and its jobs are waited for at most ``timeout_s`` seconds
    (not with ``force``); a drain of ours is lifted at the end, that of somebody else stays.
    """
    assignment = gres.observed(node, declared)
    if assignment.problem:
        yield stop_host(assignment.problem)
        return
    desired = {**files, "gres.conf": gres_conf(node, assignment.devices)}
    pending = _pending(desired)
    daemons = host.get_fact(SlurmDaemons)
    daemon = daemons["slurmd"]
    if not daemon["installed"]:
        yield stop_host("slurmd is not installed: the image of this node lacks it")
        return
    yield from _turn_off("slurmctld", daemons["slurmctld"])
    if not pending and daemon["active"] and daemon["enabled"]:
        yield from _resume_ours(node, f"slurmd of {node} runs with the configuration of the cluster")
        return
    level = pending.impact.slurmd(node) if daemon["active"] else None
    if level is not None and level >= Level.RESTART:
        yield from _drain_and_wait(node, pending.impact.why(node), timeout_s, force)
    yield from _stage(pending.files)
    act = {
        None: slurm_script.start("slurmd"),
        Level.NONE: [],
        Level.RECONFIGURE: slurm_script.reload_slurmd(),
    }.get(level, slurm_script.restart("slurmd"))
    wait = [] if level is Level.NONE else slurm_script.wait_for_registration(node, registration_s)
    yield _change("slurmd", desired, pending, daemon, act, wait)
    yield from _resume_ours(node, f"{node} was not drained by hpcstate")


@operation()
def drain(node: str, reason: str) -> Commands:
    """``node`` takes no new jobs, for ``reason``, which is given our prefix. Any drain stays as it is.

    The next deploy lifts it: for a drain that lasts, use scontrol and a reason of your own.
    """
    known = host.get_fact(SlurmNodes).get(node)
    if known is None:
        yield stop_host(f"slurmctld does not answer, or has no node {node}: it cannot be drained")
        return
    if _is_drained(known):
        host.noop(f"{node} is already drained: {known['reason']}")
        return
    yield _drain_command(node, reason)


@operation()
def resume(node: str) -> Commands:
    """``node`` takes jobs again if the drain is ours; a drain that somebody else set is never lifted."""
    yield from _resume_ours(node, f"{node} is not drained by hpcstate")


def wait_until_free(state: Any, host: Any, node: str, timeout_s: float) -> bool:
    """Waits until no job holds ``node``, at most ``timeout_s`` seconds, and says which jobs it waits for.

    Runs on this machine while the operation is executed; ``state`` and ``host`` are passed by pyinfra. False,
    which fails the host, when the time is over: the node stays drained and its files are untouched.
    """
    waited, told = 0.0, -1.0
    while jobs := host.get_fact(SlurmJobs, node=node):
        if waited >= timeout_s:
            return fail(
                state,
                host,
                f"jobs {_listed(jobs)} still hold {node} after {timeout_s:.0f} s.\n"
                f"The node stays drained; its Slurm was not changed. Deploy again when they have ended, or "
                "longer: --data slurm_drain_seconds=<seconds>; or end them: scontrol requeue, scancel.",
            )
        if told < 0 or waited - told >= 60:
            host.log(f"waiting for jobs {_listed(jobs)} on {node}, {waited:.0f} s of {timeout_s:.0f} s")
            told = waited
        pause = min(POLL_SECONDS, timeout_s - waited)
        gevent.sleep(pause)
        waited += max(pause, 1)
    return True


def _expected(node: str, files: Mapping[str, str], declared: Sequence[DeclaredGpu]) -> Mapping[str, str]:
    """The files that ``compute_daemon`` will want, before operations.gpu has made the simulated devices.

    Without gres.conf where real GPUs are missing: ``compute_daemon`` will stop then and change nothing.
    """
    if declared and all(gpu.simulated for gpu in declared):
        assignment = assign(node, declared, simulated_devices(len(declared), declared[0].gres_type))
    else:
        assignment = gres.observed(node, declared)
    if assignment.problem:
        return files
    return {**files, "gres.conf": gres_conf(node, assignment.devices)}


def _pending(desired: Mapping[str, str]) -> Pending:
    """The difference between ``desired`` and this host. Files that we do not know are left alone."""
    current = host.get_fact(SlurmFiles, directory=CONF_DIRECTORY)
    applied = host.get_fact(SlurmFiles, directory=slurm_script.APPLIED)
    return Pending(
        files={name: content for name, content in desired.items() if current.get(name) != content},
        impact=combine(impact(applied.get(name, ""), content, name) for name, content in desired.items()),
        recorded=all(applied.get(name) == content for name, content in desired.items()),
    )


def _stage(files: Mapping[str, str]) -> Iterable[PyinfraCommand]:
    for name, content in files.items():
        yield write_file(f"{slurm_script.STAGED}/{name}", content)


def _change(
    unit: str,
    files: Mapping[str, str],
    pending: Pending,
    daemon: SlurmDaemon,
    act: Sequence[str],
    wait: Sequence[str],
) -> StringCommand:
    enable = slurm_script.enable(unit) if daemon["active"] and not daemon["enabled"] else []
    return StringCommand(slurm_script.change(unit, list(files), list(pending.files), [*act, *enable], wait))


def _turn_off(unit: str, daemon: SlurmDaemon) -> Iterable[PyinfraCommand]:
    """The daemon of the other role: one image serves both, and slurm.conf would let it start at boot."""
    if daemon["active"] or daemon["enabled"]:
        yield StringCommand(f"systemctl disable --quiet --now {unit}")


def _drain_and_wait(node: str, why: str, timeout_s: float, force: bool) -> Iterable[PyinfraCommand]:
    if force:
        return
    known = host.get_fact(SlurmNodes).get(node)
    if known is not None and not _is_drained(known):
        yield _drain_command(node, why)
    yield FunctionCommand(wait_until_free, (node, timeout_s), {})


def _drain_command(node: str, reason: str) -> StringCommand:
    text = REASON_PREFIX + reason.removeprefix(REASON_PREFIX)
    if len(text) > _REASON_LENGTH:
        text = text[: _REASON_LENGTH - 1] + "…"
    return StringCommand(
        f"scontrol update nodename={shlex.quote(node)} state=drain reason={shlex.quote(text)}"
    )


def _resume_ours(node: str, otherwise: str) -> Iterable[PyinfraCommand]:
    """Lifts our drain of ``node``; says ``otherwise`` when there is none."""
    known = host.get_fact(SlurmNodes).get(node)
    if known is None or not _is_drained(known):
        host.noop(otherwise)
    elif not known["reason"].startswith(REASON_PREFIX):
        host.noop(f"{node} stays drained, as {known['reason_user']} wants it: {known['reason']}")
    else:
        yield StringCommand(f"scontrol update nodename={shlex.quote(node)} state=resume")


def _is_drained(node: SlurmNode) -> bool:
    return "DRAIN" in node["states"]


def _holders(change: Impact) -> dict[str, list[int]]:
    """The jobs on each node that ``change`` must not be made under, as slurmctld knows them."""
    known: dict[str, SlurmNode] = host.get_fact(SlurmNodes) if change.changes else {}
    jobs = {node: host.get_fact(SlurmJobs, node=node) for node in change.drained_nodes(known)}
    return {node: held for node, held in jobs.items() if held}


def _listed(jobs: Sequence[int]) -> str:
    return ", ".join(str(job) for job in jobs)
