"""The registry of containers on a node of a Slurm cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.registry import Registry
from hpcstate.errors import HpcstateError
from hpcstate.model.container import REGISTRY
from hpcstate.node.managed import Managed
from hpcstate.registry import catalog, layout, scripts
from hpcstate.registry import difference as registry_difference
from hpcstate.registry.layout import Stored
from operations.util.arguments import operation
from operations.util.commands import fail, stop_host

Deliver = Callable[[str, Sequence[str], Callable[[str, str], None]], str]
"""Brings the declared containers to nodes: the node that asks, all nodes of this run, and whom to tell.
Returns why the node that asks has not got everything (hpcstate.registry.delivery.Delivery.to)."""

MANAGED = (
    Managed(
        "registry",
        "the registry of containers: folders, modes, owners, catalog, the declared containers whole",
        REGISTRY,
        "one look at all of it; digests of what changed since they were recorded",
        "mended",
    ),
)


@operation()
def state(
    node: str, config: str, wanted: Sequence[Stored], deliver: Deliver
) -> Generator[PyinfraCommand, None, None]:
    """The registry is laid out, and has ``wanted`` as current versions, and what its catalog names, whole.

    One fact serves all of it. ``config`` is the content of config.yaml. Files travel at execution, for all
    nodes at once, and are verified on the node.
    """
    found = host.get_fact(Registry)
    try:
        known = catalog.parse(found["catalog"])
    except HpcstateError:
        known = layout.Catalog()
    should = known
    for stored in wanted:
        if not known.is_everywhere(stored):
            should = should.with_current(stored)
    try:
        text = catalog.write(should) if should.stored or found["catalog"] else ""
    except HpcstateError as error:
        yield stop_host(f"containers: {error}")
        return
    difference = registry_difference.difference(found, should, node, catalog_text=text, config=config)
    if difference.in_step:
        host.noop(f"the registry has its {len(should.stored)} versions of containers")
        return
    if difference.layout or difference.config:
        yield StringCommand("sh -s", _stdin=scripts.layout(config))
    if not difference.in_step_but_for_layout:
        yield FunctionCommand(_receive, (node, deliver), {})


def _receive(state: Any, host: Any, node: str, deliver: Deliver) -> bool:
    """Have the containers delivered, and fail this host with the reason when it has not got them.

    ``state`` and ``host`` are passed by pyinfra.
    """

    def say(name: str, text: str) -> None:
        host.log(f"{name}: {text}")

    why = deliver(node, sorted(active.name for active in state.active_hosts), say)
    return fail(state, host, f"containers: {why}") if why else True
