"""Commands that several operations yield."""

from __future__ import annotations

from typing import Any

from pyinfra import logger
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.context import state

from hpcstate import programs
from hpcstate.node.drift import NAMED, STOPS


def stop_host(message: str) -> FunctionCommand:
    """A command that fails with ``message`` and so ends the run for this host, while the others go on.

    An exception out of an operation's body would end the run for all hosts: pyinfra 3.10 lets it through
    (api/operations.py, _run_single_op, greenlet.get()). A function that returns False fails one host.
    """
    return FunctionCommand(fail, (message,), {})


def has_failed(name: str) -> bool:
    """Whether the host called ``name`` was stopped in this run, or never reached."""
    return any(host.name == name for host in state.failed_hosts)


def fail(state: Any, host: Any, message: str) -> bool:
    """Says ``message`` in the name of the host and fails. ``state`` and ``host`` are passed by pyinfra."""
    del state
    for number, line in enumerate(message.splitlines()):
        host.log_styled(line if number else f"{STOPS}{line}", fg="red", log_func=logger.error)
    return False


_named: set[tuple[str, str]] = set()
"""What was named for which host: pyinfra runs an operation when it plans and when it executes."""


def name_once(host: Host, text: str) -> None:
    """Says in the name of the host what differs and is left as it is, at the first time it is seen."""
    if (host.name, text) not in _named:
        _named.add((host.name, text))
        host.log_styled(f"{NAMED}{text}", fg="yellow", log_func=logger.warning)


def write_file(
    path: str, content: str, mode: str = "644", *, owner: str = "", mark: str = ""
) -> StringCommand:
    """Puts ``content``, which ends with a newline, at ``path``: owned by root, or ``owner`` (``user:group``),
    replaced in one step.

    The content travels on standard input: not in argv, where every user of the node could read it, and not by
    a temporary file of the SSH user. Directories are made as needed. ``mark`` is the path of an empty file
    that is made before the file is replaced.
    """
    return StringCommand(programs.replace_file(path, mode, owner=owner, mark=mark), _stdin=content)
