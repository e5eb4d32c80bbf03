"""The registries of a cluster's nodes as they are, all looked at at once, and the lock on changing them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from hpcstate import catalog as catalog_file
from hpcstate import registry
from hpcstate import registry_scripts as scripts
from hpcstate.errors import HpcstateError, from_os
from hpcstate.live import Live
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths, shown
from hpcstate.probe.registry import RegistryState
from hpcstate.registry import Catalog

LOOK_TIMEOUT = 900.0
"""Seconds for looking at a registry: files without a record are hashed."""

_PARALLEL = 16


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

    def one(name: str) -> tuple[RegistryState, int] | HpcstateError:
        try:
            answer = live.run(name, scripts.look(rehash=rehash), user="root", timeout=LOOK_TIMEOUT)
            return scripts.read_look(answer.stdout)
        except HpcstateError as error:
            return error

    with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def catalog_of(states: Mapping[str, RegistryState], controller: str) -> Catalog:
    """The cluster's catalog: the controller's. When that one is lost or damaged, that of the first node whose
    own can be read. Raises HpcstateError when none can and one of them was damaged."""
    damage = None
    for name in sorted(states, key=lambda name: name != controller):
        text = states[name]["catalog"]
        if text.strip():
            try:
                return catalog_file.parse(text, f"{name}:{registry.CATALOG}")
            except HpcstateError as error:
                damage = damage or error
    if damage:
        raise damage
    return Catalog()
