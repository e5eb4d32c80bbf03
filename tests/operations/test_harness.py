"""The harness itself is seen to fail: each test gives it an operation that breaks one of its rules."""

from __future__ import annotations

from collections.abc import Generator
from io import StringIO
from typing import Any

import pytest
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.server import Hostname
from pyinfra.operations import files

from tests.operations.harness import HarnessError, run

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


@pytest.mark.parametrize(
    ("tested", "args", "facts", "message"),
    [
        (hostname, ["b"], {}, "not recorded"),
        (nosy, [], {}, "only deploys"),
        (ping, ["b"], {Ping.name: {"target=a": "1"}}, "target=b"),
        (misspelt, [], {Ping.name: {"*": "1"}}, "wrong arguments"),
    ],
)
def test_what_breaks_a_rule_fails(tested: Any, args: list[str], facts: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        run(tested, *args, facts=facts)


def test_what_an_operation_would_do_is_seen() -> None:
    assert run(hostname, "b", facts={"server.Hostname": "a"}).commands == ["hostname b"]
    unchanged = run(hostname, "b", facts={"server.Hostname": "b"})
    assert (unchanged.commands, unchanged.noops) == ([], ["the host is already called b"])
    assert run(ping, "a", facts={Ping.name: {"*": "1"}}).commands == ["echo 1"]
    assert run(typed, "a\n").commands == [{"command": "cat > /etc/motd", "_stdin": "a\n"}]
    upload = {"upload": MOTD, "content": "hello\n"}
    assert run(motd, "hello\n", facts=file_facts(None)).commands == [upload, "chmod 644 /etc/motd"]
    there = file_facts("f572d396fae9206628714fb2ce00f72e94f2258f")
    assert run(motd, "hello\n", facts=there).commands == []


def test_what_a_function_runs_has_an_answer() -> None:
    outcome = run(wait_for, "a", facts={Ping.name: {"*": {"sequence": ["busy", "free"]}}})
    assert outcome.commands == [{"function": "wait", "args": ["a"], "kwargs": {}}]
    with pytest.raises(HarnessError, match="sleep 1"):
        outcome.execute_functions({})


def test_a_function_runs_against_recorded_facts_and_a_scripted_shell() -> None:
    facts = {Ping.name: {"target=a": {"sequence": ["busy", "busy", "free"]}}}
    outcome = run(wait_for, "a", facts=facts)
    assert outcome.host.ran == []
    assert outcome.execute_functions({"sleep 1": []}) == ["sleep 1", "sleep 1"]


def test_a_function_gets_state_and_host_as_from_pyinfra() -> None:
    outcome = run(stopped, "no GPU")
    assert outcome.commands == [{"function": "say", "args": ["no GPU"], "kwargs": {}}]
    outcome.execute_functions()
    assert outcome.host.said == ["no GPU"]
