"""Order between groups of hosts."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand
from pyinfra.api.operation import operation
from pyinfra.context import host


@operation()
def wait(what: str) -> Generator[PyinfraCommand, None, None]:
    """Waits until all hosts have done what comes before; never changes anything. ``what`` they have done.

    pyinfra sorts the operations of all hosts topologically: those of two groups without a common host have no
    order between them (api/state.py, get_op_order). This operation is called on every host, so that what
    stands before it is done on all hosts before any host begins with what stands behind it.
    """
    host.noop(f"all hosts have {what}")
    yield from ()
