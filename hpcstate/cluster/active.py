"""Active checks from this machine: of nodes without jobs by Slurm's jobs, of one that comes back directly."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from hpcstate.errors import HpcstateError
from hpcstate.health.active import MINUTES
from hpcstate.health.decide import PREFIX
from hpcstate.health.files import FOLDER
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import nodes_command, parse_nodes
from hpcstate.terminal import Say

_BUSY = 3
_SECONDS = 300.0


def demand_on(cluster: Cluster) -> None:
    """Raises HpcstateError where the file has health off: then nodes lack the programs."""
    if not cluster.health.on:
        raise HpcstateError(
            "the active checks are part of health, which is off",
            where=f"{cluster.name}: health",
            hint="write health: {enabled: true} into the cluster file, then `up`",
        )


def run(cluster: Cluster, live: Live, *, deep: bool, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the active checks said, a dictionary for each outcome and action (hpcstate.health.active).

    Nodes without jobs are measured by jobs; one of ``names`` that an active check has drained gets no jobs:
    it is measured directly. Raises HpcstateError where it could not be done.
    """
    demand_on(cluster)
    for name in names:
        live.node(name)
    known = _nodes(cluster, live)
    direct = [name for name in names if "DRAIN" in known[name]["states"]] if names else []
    found = []
    for name in direct:
        if not known[name]["reason"].startswith(PREFIX):
            raise HpcstateError(
                f"{name} is drained ({known[name]['reason'] or 'no reason given'}): no jobs run there",
                where=cluster.name,
                hint="resume it, or check another node",
            )
        found += directly(cluster, live, name, "deep" if deep else "light")
    rest = [name for name in names if name not in direct]
    if rest or not names:
        words = [f"{FOLDER}/active", *(["--deep"] if deep else [])]
        words += [word for name in rest for word in ("--node", name)]
        found += _lines(_asked(live, cluster.controller.name, shlex.join(words), MINUTES["deep"] * 60.0))
    return found


def directly(cluster: Cluster, live: Live, name: str, what: str = "light") -> list[dict[str, Any]]:
    """Measure ``name`` without a job; the controller records and acts as for its own. Nothing where it has
    jobs. Raises HpcstateError where it cannot."""
    seconds = _SECONDS if what == "light" else MINUTES["deep"] * 60.0
    done = live.run(name, f"{FOLDER}/bench {what}", user="root", timeout=seconds, check=False)
    if done.code == _BUSY:
        return []
    if done.code != 0:
        raise HpcstateError(f"the light checks could not be made: {done.stderr.strip()}", where=name)
    said = shlex.quote(done.stdout.strip())
    answer = _asked(live, cluster.controller.name, f"printf %s {said} | {FOLDER}/active --given {name}", 60.0)
    return _lines(answer)


def gate(cluster: Cluster, name: str, say: Say, *, open_live: Callable[[Cluster], Live] = Live) -> None:
    """A node that comes back passes the light set before it gets jobs, where the file wants that. Raises
    HpcstateError where it does not: health has drained it then, and a deploy does not lift that."""
    node = next(node for node in cluster.nodes if node.name == name)
    if not cluster.health.on or not cluster.health.gate or node.role != "compute":
        return
    with open_live(cluster) as live:
        there = live.run(name, f"test -x {FOLDER}/bench", user="root", check=False)
        if there.code != 0:
            say(f"{name}: not measured: a deploy brings the active checks")
            return
        found = directly(cluster, live, name)
    failed = [each for each in found if each.get("result") == "failed" and each["severity"] != "watch"]
    if failed:
        said = "; ".join(f"{each['check']}: {each['detail']}" for each in failed)
        raise HpcstateError(
            f"{name} is on again, and does not pass the active checks: {said}",
            where=cluster.name,
            hint=f"when it is mended: hpcstate check FILE --active --node {name}",
        )
    say(f"{name}: {'; '.join(map(text, found)) or 'not measured: it has jobs'}")


def text(each: dict[str, Any]) -> str:
    """An outcome or an action as a person reads it."""
    for action in ("drain", "resume"):
        if action in each:
            return f"{each['node']}: {action}: {each[action]}"
    severity = f" ({each['severity']})" if each["severity"] else ""
    return f"{each['node']} {each['check']}: {each['result']}{severity}: {each['detail']}".rstrip(": ")


def _nodes(cluster: Cluster, live: Live) -> dict[str, Any]:
    answer = live.run(cluster.controller.name, nodes_command(), user="root", timeout=60, check=False)
    known = parse_nodes(answer.stdout)
    if not known:
        raise HpcstateError(
            "slurmctld does not answer", where=cluster.name, hint="`hpcstate status` tells more"
        )
    return dict(known)


def _asked(live: Live, node: str, script: str, timeout: float) -> str:
    """What the program printed; its exit code says the same as its lines. Raises HpcstateError where it was
    not there, or died."""
    done = live.run(node, script, user="root", timeout=timeout, check=False)
    if done.code not in (0, 1, 2) or (not done.stdout and done.stderr):
        raise HpcstateError(
            f"the active checks could not be made: {done.stderr.strip() or done.code}",
            where=node,
            hint="`up` brings their programs",
        )
    return done.stdout


def _lines(printed: str) -> list[dict[str, Any]]:
    """The outcomes among the lines; others are for people, and stand as a note."""
    found: list[dict[str, Any]] = []
    for line in printed.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            note = {"node": "", "check": "", "result": "none", "severity": "", "detail": line}
            found.append(note)
    return found
