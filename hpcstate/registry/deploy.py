"""Containers onto the nodes: only what differs, verified there before it gets its name, the catalog last.

First the controller, then from it all others at the same time. What fails on one node does not stop the
others; the same deploy again finishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.apptainer_files import PUBLIC_KEY
from hpcstate.node.ssh import Live
from hpcstate.probe.registry import RegistryState
from hpcstate.registry import catalog as catalog_file
from hpcstate.registry import difference, layout, scripts, spread, transfer
from hpcstate.registry.difference import Difference
from hpcstate.registry.layout import Catalog, Stored
from hpcstate.registry.look import LOOK_TIMEOUT, catalog_of, look_at, only_one
from hpcstate.registry.source import LocalFile, demand_whole
from hpcstate.registry.transfer import DEFAULT, SayOfNode, Way
from hpcstate.run import at_once

Outcome = Literal["changed", "unchanged", "failed"]


@dataclass(frozen=True)
class NodeResult:
    """What became of one node. ``received`` are files (below the registry) that were sent to it, ``changes``
    what else was put right, ``unknown`` what lies there and is in no catalog."""

    node: str
    outcome: Outcome
    seconds: float
    received: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class DeployResult:
    """A finished deploy. ``seconds`` is its duration."""

    cluster: str
    via: str
    containers: tuple[str, ...]
    nodes: tuple[NodeResult, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every node has what it should have."""
        return all(node.outcome != "failed" for node in self.nodes)


@dataclass
class ServedNode:
    """A node while it is being served. ``lost`` are files that it lacks and no node that answers has."""

    name: str
    began: float
    state: RegistryState | None = None
    room: int = 0
    found: Difference | None = None
    error: HpcstateError | None = None
    received: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return self.error is None and self.state is not None

    def has(self, stored: Stored) -> bool:
        """Whether it has ``stored``, whole."""
        there = self.state["files"].get(stored.file) if self.state else None
        return stored.file in self.received or (there is not None and there["sha256"] == stored.digest)

    def result(self) -> NodeResult:
        """What has become of it."""
        seconds = self.seconds or time.monotonic() - self.began
        error, found = self.error, self.found
        changed = bool(self.received or self.changes)
        return NodeResult(
            node=self.name,
            outcome="failed" if error else "changed" if changed else "unchanged",
            seconds=round(seconds, 1),
            received=tuple(self.received),
            changes=tuple(self.changes),
            unknown=found.unknown if found else (),
            message=error.message if error else "",
            hint=error.hint if error else "",
        )


def deploy(
    cluster: Cluster,
    sources: Sequence[LocalFile],
    say: SayOfNode,
    *,
    way: Way = DEFAULT,
    nodes: Sequence[str] = (),
    serve: Sequence[str] = (),
    verify: bool = False,
    open_live: Callable[[Cluster], Live] = Live,
) -> DeployResult:
    """Bring ``sources``, and whatever else the catalog names and a node lacks, to the nodes of ``cluster``.

    ``nodes`` are the only ones to get ``sources`` (the controller always does: the others have it from
    there). ``serve`` are the nodes that are brought into step at all; empty means every node (the catalog is
    the same everywhere). ``verify`` hashes every file anew and verifies its signature again, instead of
    trusting what was recorded.

    Raises HpcstateError when nothing can be done: a wrong file, an unknown node, a silent controller, a
    controller that did not get a file. What goes wrong on other nodes is in the result.
    """
    began = time.monotonic()
    if problem := way.problem():
        raise HpcstateError(problem)
    with only_one(cluster), open_live(cluster) as live:
        run = _Deploy(live, say, way, verify=verify)
        run.look(serve, nodes)
        run.plan(sources, nodes)
        run.send(sources)
        run.finish()
        results = tuple(node.result() for node in run.nodes.values())
    return DeployResult(
        cluster.name,
        transfer.chosen(way),
        tuple(source.stored.file for source in sources),
        results,
        time.monotonic() - began,
    )


class _Deploy:
    """One run of :func:`deploy`: its steps share what was seen of the nodes."""

    def __init__(self, live: Live, say: SayOfNode, way: Way, *, verify: bool) -> None:
        self.live = live
        self.say = say
        self.way = way
        self.verify = verify
        self.settings = live.cluster.containers
        self.config = layout.config_text(live.cluster.name, self.settings)
        self.controller = live.cluster.controller.name
        self.nodes: dict[str, ServedNode] = {}
        self.catalog = Catalog()
        self.text = ""

    def look(self, serve: Sequence[str], wanted: Sequence[str]) -> None:
        """See what the nodes ``serve`` (all, when empty) and the controller have. One that is dead and not
        among ``wanted``, if there are any, is left out.

        Raises HpcstateError when the controller does not answer.
        """
        for name in (*serve, *wanted):
            self.live.node(name)
        dead = self.live.reach()
        if self.controller in dead:
            raise dead[self.controller]
        began = time.monotonic()
        started = {node.name for node in self.live.nodes}
        # Whoever names a node wants to hear of it, also of one that the file does not start.
        served = {*(serve or started), *wanted, self.controller}
        self.nodes = {
            node.name: ServedNode(node.name, began)
            for node in self.live.cluster.nodes
            if node.name in served and (node.name in started or node.name in wanted)
        }
        for name, error in dead.items():
            if wanted and name not in wanted:
                self.nodes.pop(name, None)
            elif name in self.nodes:
                self.nodes[name].error = error
        answers = look_at(
            self.live, [name for name, node in self.nodes.items() if not node.error], rehash=self.verify
        )
        for name, answer in answers.items():
            if isinstance(answer, HpcstateError):
                self.nodes[name].error = answer
            else:
                self.nodes[name].state, self.nodes[name].room = answer
        if failure := self.nodes[self.controller].error:
            raise failure

    def plan(self, sources: Sequence[LocalFile], only: Sequence[str]) -> None:
        """Make the catalog that is to be, and see what each node lacks of it."""
        states = {name: node.state for name, node in self.nodes.items() if node.state is not None}
        catalog = catalog_of(states, self.controller)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        nodes = tuple(sorted({*only, self.controller})) if only else ()
        for source in sources:
            signed = self._signed(source, catalog)
            catalog = catalog.with_current(replace(source.stored, deployed=now, nodes=nodes, signed=signed))
        self.catalog, self.text = catalog, catalog_file.write(catalog)
        for node in self.nodes.values():
            if node.state is not None:
                node.found = difference.difference(
                    node.state, catalog, node.name, catalog_text=self.text, config=self.config
                )
                if node.found.layout or node.found.config:
                    self._lay_out(node)
                self._demand_room(node)
        if error := self.nodes[self.controller].error:
            raise error

    def _signed(self, source: LocalFile, catalog: Catalog) -> bool:
        """Whether its signature was or will be verified. What came without one, when the policy asked for
        none, is judged now that it does: nobody sends it again, for the bytes are there.
        """
        known = next((stored for stored in catalog.stored if stored.file == source.stored.file), None)
        if known is not None and self.settings.require_signature and not known.signed:
            demand_whole(source, self.settings)
        return self.settings.require_signature or (known is not None and known.signed)

    def _lay_out(self, node: ServedNode) -> None:
        try:
            self.live.run(node.name, scripts.layout(self.config), user="root")
            node.changes.append("layout")
        except HpcstateError as error:
            node.error = error

    def _demand_room(self, node: ServedNode) -> None:
        """A node whose disk is too small gets nothing at all."""
        assert node.state is not None
        assert node.found is not None
        there = node.state["incoming"]
        needed = sum(
            max(0, stored.size - there.get(f"{stored.digest}.sif", 0)) for stored in node.found.to_send
        )
        if needed > node.room:
            node.error = HpcstateError(
                f"{layout.ROOT} has room for {transfer.megabytes(node.room)}, "
                f"{transfer.megabytes(needed)} are needed",
                where=node.name,
                hint="`hpcstate container prune` removes old versions; nothing was sent to this node",
            )

    def send(self, sources: Sequence[LocalFile]) -> None:
        """Bring every file to the nodes that lack it, one file after the other."""
        local = {source.stored.file: source for source in sources}
        lacking = {
            stored.file: stored
            for node in self.nodes.values()
            if node.sound and node.found
            for stored in node.found.to_send
        }
        for file in lacking:
            if file in local:
                demand_whole(local[file], self.settings)
        self._give_key(local)
        for file, stored in sorted(lacking.items()):
            holders = sorted(
                (name for name, node in self.nodes.items() if node.sound and node.has(stored)),
                key=lambda name: name != self.controller,
            )
            needers = [
                name
                for name, node in self.nodes.items()
                if node.sound and node.found and stored in node.found.to_send
            ]
            if not holders and file in local:
                self._upload(local[file].path, stored)
                holders, needers = [self.controller], [name for name in needers if name != self.controller]
            if not holders:
                for name in needers:
                    self.nodes[name].lost.append(file)
            elif needers:
                self._spread(stored, holders, needers)

    def _give_key(self, local: Collection[str]) -> None:
        """The key that verifies the files ``local`` is made with the first container: a node that was
        deployed before that has none. One that has another key gets nothing: it would refuse what was sent.

        Raises HpcstateError where that is the controller.
        """
        if not self.settings.require_signature or not paths.PUBLIC_KEY.exists():
            return
        script = scripts.give_key(paths.PUBLIC_KEY.read_text(encoding="utf-8"))
        for name, node in self.nodes.items():
            if not (node.sound and node.found and any(each.file in local for each in node.found.to_send)):
                continue
            try:
                said = self.live.run(name, script, user="root").stdout.strip()
                if said == "given":
                    node.changes.append("the key that verifies containers")
                elif said:
                    raise HpcstateError(
                        f"{PUBLIC_KEY} is another key than {paths.shown(paths.PUBLIC_KEY)}, which signs here",
                        where=name,
                        hint="`pyinfra INVENTORY deploys/containers.py` gives the nodes that one; nothing "
                        "was sent to this node",
                    )
            except HpcstateError as error:
                node.error = error
        if refused := self.nodes[self.controller].error:
            raise refused

    def _upload(self, path: Path, stored: Stored) -> None:
        """To the controller; what was left there of an earlier try may be damaged, hence the second one."""
        self.say(self.controller, f"{stored.name}: {transfer.megabytes(stored.size)} from here")
        transfer.upload(self.live, path, stored, self.way, self.say)
        try:
            self._place(self.controller, stored)
        except transfer.DamagedError:
            transfer.upload(self.live, path, stored, self.way, self.say)
            self._place(self.controller, stored)

    def _place(self, name: str, stored: Stored) -> None:
        self.say(name, f"{stored.name}: verifying")
        script = scripts.place(stored, require_signature=self.settings.require_signature)
        answer = self.live.run(name, script, user="root", timeout=LOOK_TIMEOUT, check=False)
        why, damaged = scripts.refusal(answer.stdout)
        if why:
            kind = transfer.DamagedError if damaged else HpcstateError
            raise kind(
                f"{stored.file}: {why}",
                where=name,
                hint="" if damaged else "deploys/containers.py gives the nodes the key that signs here",
            )
        if answer.code != 0:
            raise transfer.transfer_error(self.live, name, stored, answer)
        self.nodes[name].received.append(stored.file)
        self.say(name, f"{stored.name}: in place")

    def _spread(self, stored: Stored, holders: Sequence[str], needers: Sequence[str]) -> None:
        def place(name: str) -> None:
            self._place(name, stored)

        failed: dict[str, HpcstateError] = {}
        left = tuple(needers)
        via = transfer.chosen(self.way)
        if via == "sbcast" and holders[0] == self.controller:
            failed, left = spread.sbcast(self.live, stored, left, place, self.say)
        elif via == "oras" and holders[0] == self.controller:
            failed, left = spread.oras(self.live, stored, left, place, self.way, self.say), ()
        if left:
            failed |= spread.relay(self.live, stored, holders, left, place, self.way, self.say)
        for name, error in failed.items():
            self.nodes[name].error = error
            self.say(name, f"{stored.name}: {error.message.splitlines()[0]}")
        if self.controller in failed:
            raise failed[self.controller]

    def finish(self) -> None:
        """Links, modes and last the catalog, on every node that has all files; then signatures, if asked."""

        def finish_on(node: ServedNode) -> None:
            try:
                self._finish(node)
                if node.lost:
                    raise HpcstateError(
                        f"no node that answers has {', '.join(node.lost)}",
                        where=node.name,
                        hint="deploy it again from where it was built; when every node answers, "
                        "`hpcstate container prune` takes out of the catalog what is lost",
                    )
            except HpcstateError as error:
                node.error = error
            node.seconds = time.monotonic() - node.began

        sound = {name: node for name, node in self.nodes.items() if node.sound}
        at_once(lambda name: finish_on(sound[name]), sound)

    def _finish(self, node: ServedNode) -> None:
        assert node.found is not None
        found = node.found
        if not found.in_step or node.received:
            links = [(path, target) for path, target in found.links if not self._is_lost(node, path, target)]
            script = scripts.finish(links=links, stale=found.stale, closed=found.open, catalog=self.text)
            self.live.run(node.name, script, user="root")
            node.changes += [f"mode and owner of {file.file}" for file in found.open]
            node.changes += [f"{path} -> {target}" for path, target in links]
            node.changes += [f"link {path} removed" for path in found.stale]
            node.changes += ["catalog"] if found.catalog else []
        if self.verify and not node.lost:
            kept = [file for file in self.catalog.on(node.name) if file.file not in node.received]
            script = scripts.verify(kept, require_signature=self.settings.require_signature)
            answer = self.live.run(node.name, script, user="root", timeout=LOOK_TIMEOUT)
            if why := scripts.refusal(answer.stdout)[0]:
                raise HpcstateError(why, where=node.name, hint="the file is whole, but another key signed it")

    def _is_lost(self, node: ServedNode, link: str, target: str) -> bool:
        """Whether ``link`` would lead to nothing."""
        return f"{link.partition('/')[0]}/{target}" in node.lost
