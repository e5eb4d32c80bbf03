"""From the controller to all nodes, without a copy for each from one uplink.

- ``relay``: nodes fetch by rsync from the controller, and each that has it serves others: the number of
  sources grows with the number of nodes served. Resumes, can be limited, asks nothing of Slurm.
- ``sbcast``: through the tree of the slurmds, to nodes that are free for a job at once.
- ``oras``: the controller gives it to an OCI registry of the user's, all nodes pull it from there.

Each returns why it did not get to some nodes, by node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live
from hpcstate.probe.slurm import nodes_command, parse_nodes
from hpcstate.registry import scripts
from hpcstate.registry.layout import META, ROOT, Stored
from hpcstate.registry.transfer import (
    HOURS,
    DamagedError,
    Place,
    SayOfNode,
    Way,
    megabytes,
    progress,
    transfer_error,
)
from hpcstate.run import at_once

PER_SOURCE = 2
"""How many nodes a source serves at the same time. With one, a slow node would hold up all that wait; with
many, the first ones would become sources late."""

_PARALLEL = 32
_FREE_WITHIN = 10
"""Seconds within which Slurm must give the nodes to sbcast; after that rsync serves them."""


def relay(
    live: Live,
    stored: Stored,
    holders: Sequence[str],
    needers: Sequence[str],
    place: Place,
    way: Way,
    say: SayOfNode,
) -> dict[str, HpcstateError]:
    """Bring ``stored`` from ``holders`` to ``needers`` by rsync; each that has it serves others that wait.

    Returns why it did not get to some. A node that could not fetch it from another tries the first holder.
    """
    waiting, failed, again = deque(needers), dict[str, HpcstateError](), set[str]()
    serving = list[str]()
    slots: deque[str] = deque()
    share = way.kib_per_s(PER_SOURCE)

    def serve(node: str) -> None:
        live.run(node, scripts.serve(" ".join(live.cluster.peers)), user="root")
        serving.append(node)
        slots.extend([node] * PER_SOURCE)

    def fetch(node: str, source: str) -> None:
        address = str(live.node(source).address)
        say(node, f"{stored.name}: {megabytes(stored.size)} from {source}")
        done = live.run(
            node,
            scripts.receive(stored, address, kib_per_s=share),
            user="root",
            timeout=HOURS,
            check=False,
        )
        receiving.discard(node)
        if done.code != 0:
            raise transfer_error(live, node, stored, done)
        place(node)

    try:
        wanted, unable = max(1, -(-len(needers) // PER_SOURCE)), None
        for node in holders:
            if len(serving) < wanted:
                try:
                    serve(node)
                except HpcstateError as refusal:
                    unable = refusal
                    say(node, f"does not serve others: {refusal.message}")
        if unable is not None and not serving:
            return dict.fromkeys(needers, unable)
        first = serving[0]
        with (
            ThreadPoolExecutor(max_workers=_PARALLEL) as pool,
            progress(live, stored, (), say) as receiving,
        ):
            running: dict[Future[None], tuple[str, str]] = {}
            while waiting or running:
                if not slots and not running:
                    slots.append(first)
                while waiting and slots:
                    node, source = waiting.popleft(), slots.popleft()
                    receiving.add(node)
                    running[pool.submit(fetch, node, source)] = (node, source)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    node, source = running.pop(future)
                    if node not in again:
                        slots.append(source)
                    error = future.exception()
                    if isinstance(error, HpcstateError):
                        if node in again or (source == first and not isinstance(error, DamagedError)):
                            failed[node] = error
                            continue
                        # The source may be to blame, or a part that was there: once more from the first.
                        say(node, f"{stored.name}: {error.message.splitlines()[0]}; once more from {first}")
                        again.add(node)
                        slots = deque(slot for slot in slots if slot != source or slot == first)
                        receiving.add(node)
                        running[pool.submit(fetch, node, first)] = (node, first)
                    elif error is not None:
                        raise error
                    elif len(waiting) > len(slots):
                        try:
                            serve(node)
                        except HpcstateError as refusal:
                            say(node, f"does not serve others: {refusal.message}")
    finally:
        for node in serving:
            _quietly(live, node, scripts.stop_serving())
    return failed


def _quietly(live: Live, node: str, script: str) -> None:
    """Run a script that tidies up: a node that is dead by now has nothing to tidy."""
    try:
        live.run(node, script, user="root", check=False)
    except HpcstateError:
        return


def sbcast(
    live: Live, stored: Stored, needers: Sequence[str], place: Place, say: SayOfNode
) -> tuple[dict[str, HpcstateError], tuple[str, ...]]:
    """Bring ``stored`` from the controller to those of ``needers`` that Slurm gives to a job at once.

    Returns why it did not get to some, and the nodes that were not free: they are for :func:`relay`.
    """
    controller = live.cluster.controller.name
    free = [node for node in free_nodes(live) if node in needers]
    if not free:
        return {}, tuple(needers)
    for node in free:
        say(node, f"{stored.name}: {megabytes(stored.size)} by sbcast")
    with progress(live, stored, free, say):
        done = live.run(
            controller,
            sbcast_script(stored, free, _partition(live, free)),
            user="root",
            timeout=HOURS,
            check=False,
        )
    if done.code != 0:
        # No node is known to have the whole of it; rsync goes on from the parts that they have.
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(controller, f"sbcast did not go through ({last}): rsync instead")
        return {}, tuple(needers)
    failed = _on_each(free, place)
    return failed, tuple(node for node in needers if node not in free)


def free_nodes(live: Live) -> list[str]:
    """The compute nodes that can take a job now: idle or partly used, and nothing said against them."""
    text = live.run(live.cluster.controller.name, nodes_command(), user="root", check=False).stdout
    if not text.strip():
        return []
    working = {frozenset({"IDLE"}), frozenset({"MIXED"})}
    return [name for name, node in parse_nodes(text).items() if frozenset(node["states"]) in working]


def _partition(live: Live, nodes: Sequence[str]) -> str:
    """A partition that has all of ``nodes``; empty for the default one."""
    slurm = live.cluster.slurm
    for partition in slurm.partitions if slurm else ():
        if set(nodes) <= set(partition.nodes):
            return partition.name
    return ""


def sbcast_script(stored: Stored, nodes: Sequence[str], partition: str) -> str:
    """sbcast within an allocation of ``nodes``, which must come at once: jobs that wait are somebody else's.

    The file is sent to a name of its own: sbcast writes as it receives, and the slurmds run as root as this
    job's user does. One task a node with the least memory that a job can ask for (sbatch(1), --mem).
    """
    where = f"-p {partition} " if partition else ""
    return (
        f"salloc -Q -J hpcstate-registry {where}-N {len(nodes)} -n {len(nodes)} --ntasks-per-node=1 --mem=1 "
        f"-w {','.join(nodes)} --immediate={_FREE_WITHIN} -D {META} "
        f"sbcast --force {ROOT}/{stored.file} {scripts.incoming(stored)}"
    )


def oras(
    live: Live, stored: Stored, needers: Sequence[str], place: Place, way: Way, say: SayOfNode
) -> dict[str, HpcstateError]:
    """Push ``stored`` from the controller to the user's OCI registry, and let ``needers`` pull it.

    Returns why it did not get to some; raises HpcstateError when the registry did not take it.
    """
    controller = live.cluster.controller.name
    reference = (
        f"{way.oras_url.rstrip('/')}/{stored.name}:{stored.version.replace('+', '_')}-{stored.digest[:12]}"
    )
    say(controller, f"{stored.name}: to {reference}")
    script = scripts.push(stored, reference, plain_http=way.plain_http)
    live.run(controller, script, user="root", timeout=HOURS)

    def fetch(node: str) -> None:
        say(node, f"{stored.name}: {megabytes(stored.size)} from {way.oras_url}")
        pull = scripts.pull(stored, reference, plain_http=way.plain_http)
        done = live.run(node, pull, user="root", timeout=HOURS, check=False)
        receiving.discard(node)
        if done.code != 0:
            raise transfer_error(live, node, stored, done)
        place(node)

    with progress(live, stored, needers, say) as receiving:
        return _on_each(needers, fetch)


def _on_each(nodes: Iterable[str], act: Callable[[str], None]) -> dict[str, HpcstateError]:
    """``act`` on all nodes at once, and the errors by node."""

    def refusal(node: str) -> HpcstateError | None:
        try:
            act(node)
        except HpcstateError as error:
            return error
        return None

    return {node: error for node, error in at_once(refusal, nodes).items() if error is not None}
