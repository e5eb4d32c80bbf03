"""The registries of a cluster's nodes as they are, all looked at at once, and the lock on changing them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from hpcstate.errors import HpcstateError, from_os
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths, shown
from hpcstate.probe.registry import RegistryState
from hpcstate.registry import catalog as catalog_file
from hpcstate.registry import difference as registry_difference
from hpcstate.registry import layout, scripts
from hpcstate.registry.difference import Difference
from hpcstate.registry.layout import Catalog
from hpcstate.run import at_once

LOOK_TIMEOUT = 900.0
"""Seconds for looking at a registry: files without a record are hashed."""


@contextmanager
def only_one(cluster: Cluster) -> Iterator[None]:
    """Hold this machine's lock on the registry of ``cluster``. Raises HpcstateError when it is taken."""
    path = ClusterPaths.of(cluster.name).root / "registry.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HpcstateError(
                    "another deploy or prune of this cluster's containers is running", where=shown(path)
                ) from None
            yield
    except OSError as error:
        raise from_os(error) from error


def look_at(
    live: Live, names: Sequence[str], *, rehash: bool = False
) -> dict[str, tuple[RegistryState, int] | HpcstateError]:
    """The registries of ``names`` and the room there (bytes), all at once; or why a node did not tell."""

    def look(name: str) -> tuple[RegistryState, int] | HpcstateError:
        try:
            answer = live.run(name, scripts.look(rehash=rehash), user="root", timeout=LOOK_TIMEOUT)
            return scripts.read_look(answer.stdout)
        except HpcstateError as error:
            return error

    return at_once(look, names)


def catalog_of(states: Mapping[str, RegistryState], controller: str) -> Catalog:
    """The cluster's catalog: the controller's. When that one is lost or damaged, that of the first node whose
    own can be read. Raises HpcstateError when none can and one of them was damaged."""
    damage = None
    for name in sorted(states, key=lambda name: name != controller):
        text = states[name]["catalog"]
        if text.strip():
            try:
                return catalog_file.parse(text, f"{name}:{layout.CATALOG}")
            except HpcstateError as error:
                damage = damage or error
    if damage:
        raise damage
    return Catalog()


def out_of_step(live: Live, *, rehash: bool = False) -> tuple[Catalog, dict[str, list[str]]]:
    """The cluster's catalog, and by node what is not as it says, in sentences.

    Raises HpcstateError when the controller does not answer.
    """
    dead = live.reach()
    controller = live.cluster.controller.name
    if controller in dead:
        raise dead[controller]
    names = [node.name for node in live.nodes]
    answers = look_at(live, [name for name in names if name not in dead], rehash=rehash)
    states = {name: answer[0] for name, answer in answers.items() if not isinstance(answer, HpcstateError)}
    errors = {name: error for name, error in {**dead, **answers}.items() if isinstance(error, HpcstateError)}
    if controller in errors:
        raise errors[controller]
    catalog = catalog_of(states, controller)
    return catalog, {
        name: [errors[name].message]
        if name in errors
        else registry_difference.findings(difference(live.cluster, catalog, name, states[name]), states[name])
        for name in names
    }


def difference(cluster: Cluster, catalog: Catalog, node: str, state: RegistryState) -> Difference:
    """What is not as ``catalog`` and the cluster file say in the registry of ``node``."""
    return registry_difference.difference(
        state,
        catalog,
        node,
        catalog_text=catalog_file.write(catalog) if catalog.stored or state["catalog"] else "",
        config=layout.config_text(cluster.name, cluster.containers),
    )
