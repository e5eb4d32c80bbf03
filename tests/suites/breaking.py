"""Ways to break a node and to put it back exactly as it was. For faults, on clusters made for tests."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hpcstate.check.suite import CheckFailed
from hpcstate.errors import HpcstateError
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import CONF_DIRECTORY
from tests.suites.slurm import slurm_nodes, slurmd_started

SLURM_CONF = f"{CONF_DIRECTORY}/slurm.conf"
CGROUP_CONF = f"{CONF_DIRECTORY}/cgroup.conf"
GRES_CONF = f"{CONF_DIRECTORY}/gres.conf"

_KEPT = ".hpcstate-kept"
_MEND_SECONDS = 120
_RESTART_SECONDS = 150
"""slurmd waits for what its threads tell a slurmctld that just restarts; systemd kills it after 90 s
(systemd-system.conf(5), DefaultTimeoutStopSec)."""
_RESUMABLE = frozenset({"DRAIN", "DOWN", "FAIL"})


@dataclass(frozen=True)
class Edit:
    """A change to a text file of a node. The file keeps its mode."""

    node: str
    path: str
    change: Callable[[str], str]


@contextmanager
def edited(live: Live, edits: Sequence[Edit], *, restart: Sequence[tuple[str, str]] = ()) -> Iterator[None]:
    """Change files, restart units (node and unit, one a node), and undo both afterwards. The originals stay
    on their nodes meanwhile, with owner, mode and times.

    Raises HpcstateError when an edit changes nothing: such a fault would prove nothing.
    """
    try:
        for edit in edits:
            path, kept = shlex.quote(edit.path), shlex.quote(edit.path + _KEPT)
            # An original that is already there was left by a run that was killed: it is the true one.
            keep = f"[ ! -e {kept} ] || mv -f {kept} {path}; cp -a {path} {kept}"
            show = f"set -e\n{keep}; stat -L -c %a {path}; cat {path}"
            octal, _, before = live.run(edit.node, show, user="root").stdout.partition("\n")
            after = edit.change(before)
            if after == before:
                raise HpcstateError("the fault changes nothing", where=f"{edit.node}:{edit.path}")
            live.put(edit.node, edit.path, after, mode=int(octal, 8))
        _begin_all(live, restart, "restart")
        yield
    finally:
        for edit in edits:
            path, kept = shlex.quote(edit.path), shlex.quote(edit.path + _KEPT)
            live.run(edit.node, f"[ ! -e {kept} ] || mv -f {kept} {path}", user="root")
        _begin_all(live, restart, "restart")
        if restart:
            wait_idle(live)


@contextmanager
def stopped(live: Live, node: str, unit: str) -> Iterator[None]:
    """Stop a systemd unit of ``node`` and start it again afterwards."""
    try:
        live.run(node, f"systemctl stop {unit}", user="root")
        yield
    finally:
        begin(live, node, unit, "start")
        wait_idle(live)


@contextmanager
def moved(live: Live, node: str, path: str) -> Iterator[None]:
    """Take the name of a file of ``node`` away. In its folder, it keeps number, owner and mode; by the end
    of its name no shell reads it (/etc/profile.d/*.sh).
    """
    folder, _, name = path.rpartition("/")
    kept = f"{folder}/hpcstate-kept-{name}{_KEPT}"
    try:
        live.run(node, f"mv {path} {kept}", user="root")
        yield
    finally:
        live.run(node, f"mv -f {kept} {path}", user="root")


@contextmanager
def mode(live: Live, node: str, path: str, octal: str) -> Iterator[None]:
    """Give a file of ``node`` another mode, and its own one back afterwards."""
    quoted = shlex.quote(path)
    before = live.run(node, f"stat -L -c %a {quoted}", user="root").stdout.strip()
    try:
        live.run(node, f"chmod {octal} {quoted}", user="root")
        yield
    finally:
        live.run(node, f"chmod {before} {quoted}", user="root")


def begin(live: Live, node: str, unit: str, verb: str) -> None:
    """Start or restart a unit; slurmd is up once slurmctld has heard of what it found on its node."""
    _begin_all(live, [(node, unit)], verb)


def _begin_all(live: Live, units: Sequence[tuple[str, str]], verb: str) -> None:
    """Start or restart units (node and unit): slurmctld first, which slurmd registers with, then the others
    at the same time."""
    # Faults restart a unit more often than its limit of starts allows (templates/base/restart.conf.j2).
    forget = "systemctl reset-failed"
    controllers = [(node, unit) for node, unit in units if unit == "slurmctld"]
    for node, unit in controllers:
        live.run(node, f"{forget} {unit}; systemctl {verb} {unit}", user="root", timeout=_RESTART_SECONDS)
    # Times of registration are in whole seconds: a second apart, the new one is later than the old one.
    scripts = {
        node: f"sleep 1; date +%s; {forget} {unit}; systemctl {verb} {unit}"
        for node, unit in units
        if (node, unit) not in controllers
    }
    answers = live.run_each(scripts, user="root", timeout=_RESTART_SECONDS)
    began = {node: int(answer.stdout) for node, answer in answers.items()}
    waited = [node for node, unit in units if unit == "slurmd"]
    limit = time.monotonic() + _MEND_SECONDS
    while waited:
        started = slurmd_started(live)
        waited = [node for node in waited if started.get(node, 0) < began[node]]
        if waited and time.monotonic() > limit:
            raise HpcstateError(f"slurmd did not register in {_MEND_SECONDS} s", where=", ".join(waited))
        time.sleep(0.3 if waited else 0)


def wait_idle(live: Live) -> None:
    """Wait until every compute node is idle, lifting the drains and downs that a fault left behind.

    Raises HpcstateError when that takes longer than two minutes.
    """
    limit = time.monotonic() + _MEND_SECONDS
    names = {node.name for node in live.workers}
    while True:
        try:
            nodes = {name: node for name, node in slurm_nodes(live).items() if name in names}
        except CheckFailed:
            nodes = {}
        if nodes.keys() == names and all(node["states"] == ["IDLE"] for node in nodes.values()):
            return
        if time.monotonic() > limit:
            states = [f"{name} {'+'.join(node['states'])} {node['reason']}" for name, node in nodes.items()]
            said = ", ".join(states) or "slurmctld is silent"
            raise HpcstateError(f"the cluster did not recover in {_MEND_SECONDS} s: {said}")
        resume = ",".join(name for name, node in nodes.items() if _RESUMABLE & set(node["states"]))
        if resume:
            # Refused while a node has not registered again (INVALID_REG); the next round repeats it.
            script = f"scontrol update nodename={resume} state=resume"
            live.run(live.cluster.controller.name, script, user="root", check=False)
        time.sleep(0.5)


def set_key(key: str, value: str) -> Callable[[str], str]:
    """An edit that sets ``key=value`` in a file of slurm.conf's kind: in its line, or in a new one."""
    pattern = re.compile(rf"^[ \t]*{re.escape(key)}[ \t]*=.*$", re.MULTILINE | re.IGNORECASE)
    line = f"{key}={value}"

    def change(text: str) -> str:
        return pattern.sub(line, text) if pattern.search(text) else f"{text.rstrip()}\n{line}\n"

    return change


def append(line: str) -> Callable[[str], str]:
    """An edit that adds a line at the end."""
    return lambda text: f"{text.rstrip()}\n{line}\n"


def last_worker(live: Live) -> Node:
    """The compute node that faults choose: the last, so that a check of the first one only would miss it."""
    return live.workers[-1]


def last_gpu_node(live: Live) -> Node:
    """The last compute node with GPUs."""
    return [node for node in live.workers if node.gres_types][-1]
