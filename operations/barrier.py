"""Order between groups of hosts."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from pyinfra import context
from pyinfra.api.command import PyinfraCommand
from pyinfra.context import ctx_host, host

from operations.util.arguments import operation
from operations.util.commands import stop_host


@operation()
def wait(what: str) -> Generator[PyinfraCommand, None, None]:
    """Waits until all hosts have done what comes before; never changes anything. ``what`` they have done.

    pyinfra sorts the operations of all hosts topologically: those of two groups without a common host have no
    order between them (api/state.py, get_op_order). This operation is called on every host, so that what
    stands before it is done on all hosts before any host begins with what stands behind it.

    ``--serial`` and ``--no-wait`` run host by host through all operations, past any order (api/operations.py,
    run_ops). There this host is stopped, unless nothing would change: slurmctld would else be changed before
    the nodes are drained.
    """
    state = context.state
    if state.is_executing:
        behind = _behind(state)
        stopped = _stopped_here(state)
        if stopped or (behind and _changes([*behind, *_of_this_host_after(state)])):
            names = ", ".join(stopped or sorted({str(other.name) for other, _ in behind}))
            yield stop_host(
                f"{names} have not yet {what}, and something would change: this host is left as it is.\n"
                "--serial and --no-wait run host by host, but the nodes depend on each other: leave them out."
            )
            return
    host.noop(f"all hosts have {what}")


Pending = tuple[Any, str]
"""A host, and the hash of an operation that it has not done."""


def _behind(state: Any) -> list[Pending]:
    """What other hosts still have to do before they come here."""
    order = state.get_op_order()
    before = order[: order.index(host.current_op_hash)]
    others = [other for other in state.inventory.get_active_hosts() if other.name != host.name]
    return [(other, op) for other in others for op in before if _is_pending(state, other, op)]


def _stopped_here(state: Any) -> list[str]:
    """The hosts that this barrier has stopped: the others do not go on without them."""
    stopped = []
    for other in state.inventory.iter_activated_hosts():
        done = state.ops[other].get(host.current_op_hash)
        if done and done.operation_meta.is_complete() and done.operation_meta.did_error():
            stopped.append(str(other.name))
    return sorted(stopped)


def _of_this_host_after(state: Any) -> list[Pending]:
    order = state.get_op_order()
    this = state.inventory.get_host(host.name)
    after = order[order.index(host.current_op_hash) + 1 :]
    return [(this, op) for op in after if _is_pending(state, this, op)]


def _is_pending(state: Any, other: Any, op: str) -> bool:
    return op in state.ops[other] and not state.ops[other][op].operation_meta.is_complete()


def _changes(pending: Iterable[Pending]) -> bool:
    """Whether any of ``pending`` would change something; what was not asked before (``-y``) is asked now."""
    for other, op in pending:
        with ctx_host.use(other):
            if context.state.ops[other][op].operation_meta.will_change:
                return True
    return False
