"""The harness itself is seen to fail: each test gives it an operation that breaks one of its rules."""

from __future__ import annotations

from collections.abc import Generator
from io import StringIO
from typing import Any

import pytest
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.hiddenvalue import HiddenValue
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.server import Hostname
from pyinfra.operations import files

from tests.operations.harness import HarnessError, run, run_case

MOTD = "/etc/motd"
FILE = {"user": "root", "group": "root", "mode": 644, "size": 6}


class Ping(FactBase[str]):
    """A fact with an argument."""

    def command(self, target: str) -> str:
        return f"ping {target}"


@operation()
def motd(text: str) -> Generator[StringCommand, None, None]:
    """Writes one file, by way of pyinfra's own operation."""
    yield from files.put._inner(src=StringIO(text), dest=MOTD, mode="644")


@operation()
def hostname(name_wanted: str) -> Generator[str, None, None]:
    """Fact, difference, change or noop."""
    if host.get_fact(Hostname) == name_wanted:
        host.noop(f"the host is already called {name_wanted}")
        return
    yield f"hostname {name_wanted}"


@operation()
def silent() -> Generator[str, None, None]:
    """Breaks the rule that a branch without change says so."""
    yield from ()


@operation()
def nosy() -> Generator[str, None, None]:
    """Breaks the rule that only deploys read host.data."""
    yield f"echo {host.data.role}"


@operation()
def ping(target: str) -> Generator[str, None, None]:
    """Asks a fact that has an argument."""
    yield f"echo {host.get_fact(Ping, target)}"


@operation()
def misspelt() -> Generator[str, None, None]:
    """Asks a fact with an argument it does not have."""
    yield f"echo {host.get_fact(Ping, address='a')}"


@operation()
def refuse() -> Generator[str, None, None]:
    """Fails as an operation does."""
    raise ValueError("no such node")
    yield ""


@operation()
def leak(password: str) -> Generator[StringCommand, None, None]:
    """Puts a secret, hidden from pyinfra's own output, into a command line."""
    yield StringCommand("login", HiddenValue(password))


def wait(target: str) -> None:
    """A function that is executed later, as waiting for a node is."""
    while host.get_fact(Ping, target=target) != "free":
        host.run_shell_command("sleep 1")


@operation()
def wait_for(target: str) -> Generator[FunctionCommand, None, None]:
    """Yields a function."""
    yield FunctionCommand(wait, [target], {})


def file_facts(sha1: str | None) -> dict[str, Any]:
    """What files.put asks about /etc/motd: ``sha1`` of its content, None where the file is absent."""
    if sha1 is None:
        absent = {"path=/etc/motd": None, "path=/etc": {"mode": 755}}
        return {"files.File": {"path=/etc/motd": None}, "files.Directory": absent}
    return {
        "files.File": {"path=/etc/motd": FILE},
        "files.Directory": {"path=/etc": {"mode": 755}},
        "files.Sha1File": {"path=/etc/motd": sha1},
    }


@operation()
def typed(text: str) -> Generator[StringCommand, None, None]:
    """Writes by standard input."""
    yield StringCommand("cat > /etc/motd", _stdin=text)


@operation()
def stopped(reason: str) -> Generator[FunctionCommand, None, None]:
    """Ends the run for this host."""
    yield FunctionCommand(say, (reason,), {})


def say(state: Any, host: Any, message: str) -> bool:
    """Fails; pyinfra passes ``state`` and ``host``."""
    host.log_styled(message, fg="red")
    return False


PASSING = [
    (typed, {"args": ["a\n"], "commands": [{"command": "cat > /etc/motd", "_stdin": ["a"]}]}),
    (hostname, {"args": ["b"], "facts": {"server.Hostname": "a"}, "commands": ["hostname b"]}),
    (
        hostname,
        {
            "args": ["b"],
            "facts": {"server.Hostname": "a"},
            "commands": ["hostname b"],
            "after": {"server.Hostname": "b"},
        },
    ),
    (
        hostname,
        {
            "args": ["b"],
            "facts": {"server.Hostname": "b"},
            "commands": [],
            "noop": "the host is already called b",
        },
    ),
    (
        motd,
        {
            "args": ["hello\n"],
            "facts": file_facts(None),
            "commands": [{"upload": MOTD, "content": ["hello"]}, "chmod 644 /etc/motd"],
        },
    ),
    (
        motd,
        {
            "args": ["hello\n"],
            "facts": file_facts("f572d396fae9206628714fb2ce00f72e94f2258f"),
            "commands": [],
        },
    ),
    (ping, {"args": ["a"], "facts": {f"{Ping.name}": {"target=a": "1"}}, "commands": ["echo 1"]}),
    (ping, {"args": ["a"], "facts": {f"{Ping.name}": {"*": "1"}}, "commands": ["echo 1"]}),
    (refuse, {"error": "ValueError: no such node"}),
    (
        wait_for,
        {
            "args": ["a"],
            "facts": {},
            "commands": [{"function": "wait", "args": ["a"]}],
        },
    ),
]

FAILING = [
    (typed, {"args": ["a\n"], "commands": [{"command": "cat > /etc/motd", "_stdin": ["b"]}]}, "the commands"),
    (typed, {"args": ["a\n"], "commands": ["cat > /etc/motd"]}, "_stdin"),
    (hostname, {"args": ["b"], "facts": {"server.Hostname": "a"}, "commands": ["hostname c"]}, "hostname c"),
    (hostname, {"args": ["b"], "facts": {}, "commands": []}, "not recorded"),
    (
        hostname,
        {"args": ["b"], "facts": {"server.Hostname": "a", "server.Date": 1}, "commands": ["hostname b"]},
        "nobody asked",
    ),
    (
        hostname,
        {
            "args": ["b"],
            "facts": {"server.Hostname": "a"},
            "commands": ["hostname b"],
            "after": {"server.Hostname": "c"},
        },
        "second run",
    ),
    (
        hostname,
        {"args": ["b"], "facts": {"server.Hostname": "b"}, "commands": [], "noop": "other"},
        "other",
    ),
    (hostname, {"args": ["b"], "facts": {"server.Hostname": "a"}}, "either"),
    (hostname, {"args": ["b"], "expected": []}, "unknown keys"),
    (silent, {"commands": []}, "does not say so"),
    (nosy, {"commands": []}, "only deploys"),
    (ping, {"args": ["b"], "facts": {Ping.name: {"target=a": "1"}}, "commands": ["echo 1"]}, "target=b"),
    (
        ping,
        {"args": ["a"], "facts": {Ping.name: {"target=a": "1", "target=b": "2"}}, "commands": ["echo 1"]},
        "target=b",
    ),
    (misspelt, {"facts": {Ping.name: {"*": "1"}}, "commands": []}, "wrong arguments"),
    (refuse, {"error": "ValueError: something else"}, "something else"),
    (refuse, {"error": "KeyError: no such node"}, "ValueError"),
    (
        hostname,
        {"args": ["b"], "facts": {"server.Hostname": "a"}, "error": "ValueError: x"},
        "yielded",
    ),
    (leak, {"args": ["hunter2"], "commands": ["login *MASKED*"], "secrets": ["hunter2"]}, "a secret"),
    (
        wait_for,
        {
            "args": ["a"],
            "facts": {Ping.name: {"*": {"sequence": ["busy", "free"]}}},
            "commands": [{"function": "wait", "args": ["a"]}],
            "shell": {},
        },
        "sleep 1",
    ),
]


@pytest.mark.parametrize(("tested", "case"), PASSING)
def test_a_right_case_passes(tested: Any, case: dict[str, Any]) -> None:
    run_case(tested, case)


@pytest.mark.parametrize(("tested", "case", "message"), FAILING)
def test_a_wrong_case_fails(tested: Any, case: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run_case(tested, case)
    assert message in str(caught.value)


def test_a_function_runs_against_recorded_facts_and_a_scripted_shell() -> None:
    facts = {Ping.name: {"target=a": {"sequence": ["busy", "busy", "free"]}}}
    outcome = run(wait_for, "a", facts=facts)
    assert outcome.host.ran == []
    assert outcome.execute_functions({"sleep 1": []}) == ["sleep 1", "sleep 1"]


def test_a_harness_error_is_never_taken_for_the_expected_error() -> None:
    with pytest.raises(HarnessError):
        run_case(ping, {"args": ["a"], "error": "AssertionError: "})


def test_a_function_gets_state_and_host_as_from_pyinfra() -> None:
    outcome = run(stopped, "no GPU")
    assert outcome.commands == [{"function": "say", "args": ["no GPU"], "kwargs": {}}]
    outcome.execute_functions()
    assert outcome.host.said == ["no GPU"]
