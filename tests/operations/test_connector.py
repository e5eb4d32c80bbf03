"""The shell that a deploy's commands go to, with a local shell in the place of the node's."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, read_output_buffers

from operations.util.connector import Connector, RootShell, fed, until


def end(process: subprocess.Popen[str]) -> None:
    """With what it runs, which has its pipes."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


class Client:
    """paramiko's client, as far as it is used here: a program of this machine."""

    def __init__(self, program: str = "timeout 20 sh") -> None:
        self.program, self.asked = program, list[str]()
        self.processes: list[subprocess.Popen[str]] = []

    def exec_command(self, command: str) -> tuple[Any, Any, Any]:
        self.asked.append(command)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            shlex.split(self.program),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stdin is not None
        process.stdin.channel = SimpleNamespace(close=partial(end, process))  # type: ignore[attr-defined]
        return process.stdin, process.stdout, process.stderr


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    for process in client.processes:
        end(process)
        with suppress(OSError), process:
            pass


def read(out: Any, err: Any) -> CommandOutput:
    return read_output_buffers(out, err, None, False, "")


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("true", 0, [], []),
        ("echo one; echo two; exit 3", 3, ["one", "two"], []),
        ("printf 'no end'", 0, ["no end"], []),
        ("printf 'one\\n\\n'", 0, ["one", ""], []),
        ("echo it\\'s; printf wrong >&2; false", 1, ["it's"], ["wrong"]),
        ("cat; echo nothing to read", 0, ["nothing to read"], []),
        ("echo '\nfirst\nsecond'", 0, ["", "first", "second"], []),
        ("kill -9 $$", 137, [], []),
        ("cd /; umask 077; export A=b; true", 0, [], []),
    ],
)
def test_a_command_is_what_it_would_be_alone(
    command: str, code: int, out: list[str], err: list[str], client: Client
) -> None:
    shell = RootShell(client)
    text = fed(StringCommand("sh", "-c", QuoteString(command)).get_raw_value(), None)
    for _ in range(2):
        got, output = shell.run(text, read)
        said = [line for line in output.stderr_lines if "Killed" not in line]
        assert (got, output.stdout_lines, said) == (code, out, err)
    assert shell.run("sh -c 'pwd; umask; echo \"$A\"'", read)[1].stdout_lines[1:] == ["0022", ""]
    assert client.asked == ["exec sudo -H -n sh"], "one shell for all"


def test_lines_come_when_they_are_said(client: Client) -> None:
    """A deploy that waits for jobs says so in the middle of a command."""
    shell = RootShell(client)
    came: list[float] = []

    def follow(out: Any, err: Any) -> CommandOutput:
        came.extend(time.monotonic() for _ in out)
        list(err)
        return CommandOutput([])

    shell.run("sh -c 'echo waits; sleep 1; echo done'", follow)
    assert came[1] - came[0] > 0.5


def test_a_shell_that_ends_is_no_success(client: Client) -> None:
    client.program = "sh -c 'echo sudo: a password is required >&2; exit 1'"
    code, output = RootShell(client).run("true", read)
    assert code == -1
    assert output.stderr_lines == ["sudo: a password is required"]


@pytest.mark.parametrize(
    ("lines", "before", "found"),
    [
        (["a\n", "MARK 0\n", "later\n"], ["a\n"], ["0"]),
        (["aMARK 3\n"], ["a"], ["3"]),
        (["MARK\n"], [], [""]),
        (["a\n", "b"], ["a\n", "b"], []),
    ],
)
def test_until_the_mark(lines: list[str], before: list[str], found: list[str]) -> None:
    seen: list[str] = []
    assert list(until(iter(lines), "MARK", seen)) == before
    assert seen == found


class Host:
    """pyinfra's host, as far as a connector asks it."""

    name, print_prefix = "controller", "[controller] "

    def __init__(self) -> None:
        self.connector_data: dict[str, Any] = {}


@pytest.fixture
def connector(client: Client, monkeypatch: pytest.MonkeyPatch) -> Connector:
    made = Connector.__new__(Connector)
    monkeypatch.setattr(SSHConnector, "__init__", lambda *_: None)
    made.__init__()  # type: ignore[misc]
    made.host, made.state, made.client = Host(), None, client  # type: ignore[assignment]
    monkeypatch.setattr(SSHConnector, "run_shell_command", lambda *_, **__: OWN)
    return made


OWN: Any = (True, "pyinfra's own")
SUDO: dict[str, Any] = {"_sudo": True, "_shell_executable": "sh"}


def test_what_is_root_s_goes_to_the_shell(connector: Connector, client: Client) -> None:
    done, output = connector.run_shell_command(StringCommand("echo", "$A"), **SUDO, _env={"A": "b c"})
    assert done and output.stdout_lines == ["b c"]
    assert connector.run_shell_command(StringCommand("exit 4"), **SUDO)[0] is False
    assert connector.run_shell_command(StringCommand("exit 4"), **SUDO, _success_exit_codes=[4])[0] is True
    assert len(client.processes) == 1


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("it's\nEND\n$A", ["it's", "END", "$A"]),
        (["one", "two\n"], ["one", "two"]),
        (io.StringIO("a\nb"), ["a", "b"]),
        ("ü" * 70000, ["ü" * 70000]),
    ],
)
def test_what_is_given_is_read(given: Any, read: list[str], connector: Connector) -> None:
    for _ in range(2):
        done, output = connector.run_shell_command(StringCommand("cat; exit 3"), **SUDO, _stdin=given)
        assert (done, output.stdout_lines) == (False, read)
        if hasattr(given, "seek"):
            given.seek(0)
    assert connector.run_shell_command(StringCommand("head -c 2; true"), **SUDO, _stdin=given)[0] is True


@pytest.mark.parametrize(
    "arguments",
    [
        {"_shell_executable": "sh"},
        {**SUDO, "_sudo_user": "hpc"},
        {**SUDO, "_get_pty": True},
        {"_sudo": True, "_shell_executable": None},
    ],
)
def test_what_is_not_is_pyinfras_own(arguments: dict[str, Any], connector: Connector, client: Client) -> None:
    assert connector.run_shell_command(StringCommand("true"), **arguments) == OWN
    assert client.processes == []


def test_a_sudo_that_refuses_is_left_to_pyinfra_to_tell(connector: Connector, client: Client) -> None:
    client.program = "false"
    assert connector.run_shell_command(StringCommand("true"), **SUDO) == OWN


def test_a_shell_that_is_gone_is_made_anew(connector: Connector, client: Client) -> None:
    """A node that booted, a connection that was made again."""
    assert connector.run_shell_command(StringCommand("true"), **SUDO)[0] is True
    end(client.processes[0])
    client.processes[0].wait()
    assert connector.run_shell_command(StringCommand("true"), **SUDO)[0] is False, (
        "nobody knows whether it ran"
    )
    assert connector.run_shell_command(StringCommand("true"), **SUDO)[0] is True
    connector.disconnect()
    assert connector.run_shell_command(StringCommand("true"), **SUDO)[0] is True
    assert len(client.processes) == 3


def test_a_command_that_took_too_long_takes_the_shell_with_it(
    connector: Connector, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector.run_shell_command(StringCommand("true"), **SUDO)

    def late(*_: Any) -> CommandOutput:
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr("operations.util.connector.read_output_buffers", late)
        with pytest.raises(TimeoutError):
            connector.run_shell_command(StringCommand("sleep 50"), **SUDO, _timeout=1)
    assert client.processes[0].wait() != 0
    assert connector.run_shell_command(StringCommand("echo", "on"), **SUDO)[1].stdout_lines == ["on"]
