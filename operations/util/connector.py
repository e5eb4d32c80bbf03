"""pyinfra's connector to the nodes, ``@hpcstate/NAME``: SSH, with one shell of root for all commands.

pyinfra's own opens a channel and runs sudo for each of a deploy's hundreds of commands; on a node that is
emulated that takes longer than most of the commands themselves (bench/deploy_commands.py).
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.output import echo
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, make_unix_command_for_host, read_output_buffers

_OF_THEIR_OWN = (
    *("_get_pty", "_sudo_user", "_sudo_password", "_use_sudo_login", "_preserve_sudo_env"),
    *("_su_user", "_doas", "_dzdo"),
)
"""The arguments of a command that the shell does not run: it has no terminal to give, and is root's."""

_LOST = -1
"""The exit code of a command whose connection ended, as paramiko has it."""


class Connector(SSHConnector):
    """SSH as pyinfra's own has it; commands of root's go to one shell, one after the other."""

    _shell: RootShell | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turn = threading.RLock()

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """``@hpcstate/NAME`` is the host NAME; how it is reached is in its data."""
        yield name, {}, []

    def disconnect(self) -> None:
        """As pyinfra's own; the shell ends with the connection."""
        self._shell = None
        super().disconnect()

    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Run ``command``, as the connector's interface has it: whether it succeeded, and its output. Raises
        TimeoutError after ``_timeout`` seconds."""
        asks = self.host.connector_data.get("prompted_sudo_password")
        one = arguments.get("_sudo") and arguments.get("_shell_executable") and not asks
        if not one or any(arguments.get(key) for key in _OF_THEIR_OWN):
            return super().run_shell_command(command, print_output, print_input, **arguments)
        options = {**arguments, "_sudo": False}
        timeout = options.pop("_timeout", None)
        codes = options.pop("_success_exit_codes", None) or [0]
        options.pop("_get_pty", None)
        given = options.pop("_stdin", None)
        line = make_unix_command_for_host(self.state, self.host, command, **options)
        logger.debug("Running command on %s, in a shell of root: %s", self.host.name, line)
        if print_input:
            echo(f"{self.host.print_prefix}>>> {line}", err=True)
        with self._turn:
            shell = self._opened(timeout)
            if shell is None:
                return super().run_shell_command(command, print_output, False, **arguments)
            try:
                code, output = shell.run(
                    fed(line.get_raw_value(), given),
                    lambda out, err: read_output_buffers(
                        out, err, timeout, print_output, self.host.print_prefix
                    ),
                )
            except BaseException:
                # What it runs may go on: nothing else can be asked of it.
                self._shell = None
                shell.close()
                raise
            if code == _LOST:
                self._shell = None
                shell.close()
        return code in codes, output

    def _opened(self, timeout: int | None) -> RootShell | None:
        """The shell of this connection; None where sudo gives none, and each command is told why."""
        if self._shell is None or self._shell.client is not self.client:
            shell = RootShell(self.client)
            code, _ = shell.run("true", lambda out, err: read_output_buffers(out, err, timeout, False, ""))
            if code != 0:
                shell.close()
                return None
            self._shell = shell
        return self._shell


class RootShell:
    """A shell of root's on a node, over one channel of the SSH connection ``client`` (paramiko's)."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._mark = f"hpcstate-{secrets.token_hex(8)}"
        self._stdin, self._stdout, self._stderr = client.exec_command("exec sudo -H -n sh")

    def run(
        self, text: str, read: Callable[[Iterable[str], Iterable[str]], CommandOutput]
    ) -> tuple[int, CommandOutput]:
        """Run the shell command ``text``, which leaves standard input alone (``fed``). ``read`` is given the
        lines of its output and of its error output as they come. Returns its exit code, -1 where the
        connection or the shell ended before it did."""
        found: list[str] = []
        # A command of several lines stays one: pyinfra has quoted it as an argument of sh.
        end = f"printf '%s %s\\n' {self._mark} \"$?\"; printf '%s\\n' {self._mark} >&2"
        try:
            self._stdin.write(f"{text}\n{end}\n")
            self._stdin.flush()
        except OSError:
            pass  # why is in what it said before it ended
        output = read(until(self._stdout, self._mark, found), until(self._stderr, self._mark, []))
        return (int(found[0]) if found else _LOST), output

    def close(self) -> None:
        """End the channel, and the shell with it."""
        self._stdin.channel.close()


def fed(text: str, given: Any) -> str:
    """The shell command ``text`` with ``given`` on its standard input, as pyinfra takes it: a text, some, or
    something to read lines from; None for nothing. In base64, and so in no argument of a program."""
    if given is None:
        return f"{text} </dev/null"
    parts = given.readlines() if hasattr(given, "readlines") else given
    parts = parts if isinstance(parts, list | tuple) else [parts]
    # Each ends with a newline (pyinfra.connectors.util.write_stdin).
    whole = "".join(part if part.endswith("\n") else f"{part}\n" for part in parts).encode()
    return f"base64 -d <<'END' | {text}\n{base64.encodebytes(whole).decode()}END"


def until(lines: Iterable[str], mark: str, found: list[str]) -> Iterator[str]:
    """``lines`` before the one with ``mark``, each as soon as it comes; ``found`` gets what follows the mark.
    A last line without an end has the mark in it."""
    for line in lines:
        before, mark_there, behind = line.partition(mark)
        if not mark_there:
            yield line
            continue
        found.append(behind.strip())
        if before:
            yield before
        return
