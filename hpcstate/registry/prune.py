"""Old versions out of the registry: what is neither current nor used by a job, on all nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.registry import catalog as catalog_file
from hpcstate.registry import prunable, scripts, use
from hpcstate.registry.layout import Catalog, Stored
from hpcstate.registry.look import catalog_of, look_at, only_one
from hpcstate.registry.prunable import Kept
from hpcstate.registry.transfer import SayOfNode, megabytes
from hpcstate.run import at_once
from hpcstate.terminal import plural

_TIMEOUT = 300.0


@dataclass(frozen=True)
class PruneResult:
    """A finished prune. ``lost`` were in the catalog and on no node; ``failed`` says of nodes why they still
    have what was to be removed.
    """

    cluster: str
    removed: tuple[Stored, ...]
    kept: tuple[Kept, ...]
    lost: tuple[Stored, ...]
    failed: tuple[tuple[str, str], ...]
    dry_run: bool
    seconds: float

    @property
    def freed(self) -> int:
        """Bytes that are free again on each node (or would be)."""
        return sum(stored.size for stored in self.removed)


def prune(
    cluster: Cluster,
    say: SayOfNode,
    *,
    keep: int = 1,
    dry_run: bool = False,
    open_live: Callable[[Cluster], Live] = Live,
) -> PruneResult:
    """Remove what nobody needs: all versions but the current ones, the ``keep`` latest before each, and those
    in use. The catalog first, so that it never names what is gone; what an interrupted prune left is removed
    by the next one, and a version that no node has any more is taken out of the catalog, current or not.

    A node that does not answer may run a job with any version: then nothing is removed. Raises HpcstateError
    for that, and when it cannot be found out what jobs use.
    """
    began = time.monotonic()
    with only_one(cluster), open_live(cluster) as live:
        dead = live.reach()
        if silent := [node.name for node in live.nodes if node.name in dead]:
            raise HpcstateError(
                f"{', '.join(silent)} does not answer and may run a job with any version: nothing is removed",
                where=cluster.name,
                hint="start the node, or take it out of the cluster file",
            )
        controller = live.cluster.controller.name
        names = [node.name for node in live.nodes]
        states = {}
        for name, answer in look_at(live, names).items():
            if isinstance(answer, HpcstateError):
                raise answer
            states[name] = answer[0]
        catalog = catalog_of(states, controller)
        used = uses(live)
        lost = prunable.lost(catalog, states, dead)
        found = catalog.without(stored.file for stored in lost)
        remove, kept = prunable.prune(found, used, keep)
        remove += prunable.left_over(catalog, states, used)
        failed: dict[str, str] = {}
        if (remove or lost) and not dry_run:
            failed = _remove(live, names, found.without(stored.file for stored in remove), remove, say)
    seconds = time.monotonic() - began
    return PruneResult(cluster.name, remove, kept, lost, tuple(failed.items()), dry_run, seconds)


def uses(live: Live) -> dict[str, str]:
    """Which files of the registry are in use on the nodes or named by jobs, and by whom."""
    nodes = {node.name: use.node_command() for node in live.nodes}
    answers = live.run_each(nodes, user="root", timeout=_TIMEOUT)
    found = {name: use.parse(name, answer.stdout) for name, answer in answers.items()}
    controller = live.cluster.controller.name
    jobs = live.run(controller, use.jobs_command(), user="root", timeout=_TIMEOUT, check=False)
    if jobs.code != 0:
        raise HpcstateError(
            "slurmctld does not tell which jobs there are: nothing is removed",
            where=controller,
            hint="`hpcstate status FILE` shows whether it runs",
        )
    return use.merged({**found, "": use.parse(controller, jobs.stdout)})


def _remove(
    live: Live, names: list[str], catalog: Catalog, remove: tuple[Stored, ...], say: SayOfNode
) -> dict[str, str]:
    text = catalog_file.write(catalog)

    def remove_on(name: str) -> str:
        gone = [stored.file for stored in remove if stored.is_on(name)]
        try:
            live.run(name, scripts.write_catalog(text), user="root")
            if gone:
                live.run(name, scripts.remove(gone), user="root", timeout=_TIMEOUT)
        except HpcstateError as error:
            say(name, error.message.splitlines()[0])
            return error.message
        size = sum(stored.size for stored in remove if stored.is_on(name))
        say(name, f"removed {plural(len(gone), 'file')}, {megabytes(size)}")
        return ""

    return {name: why for name, why in at_once(remove_on, names).items() if why}
