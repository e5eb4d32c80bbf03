"""Run one operation against recorded facts and compare what it would do.

An operation of ours is fact, difference, change or noop. Here its inner generator runs with a fake host whose
facts are recorded answers, and the yielded commands, or the noop, are compared. Nothing is executed.

A fact is named as pyinfra names it (``FactBase.name``): ``facts.slurm.SlurmNodes`` for ours, ``files.File``
for theirs. One without arguments is recorded by its answer, one with arguments by the answers to them:
``{"path=/etc/slurm/slurm.conf": {"mode": 644}}``. The arguments are those the operation passed, by name,
sorted: ``a=1, b=2``; ``*`` answers for any; ``{"sequence": [[7], []]}`` are successive answers. It fails
to ask a fact that is not recorded, or with arguments it does not have; so does reading ``host.data``, for
only deploys may. Commands are compared as text, uploads and functions in the notation of ``Outcome``::

    outcome = run(slurm.configuration, impact, facts={"files.File": {"*": None}}, path="/etc/slurm")
    assert outcome.commands == ["scontrol reconfigure"]
    assert outcome.noops == []
    assert outcome.execute_functions(shell={"scontrol ping": ["UP"]}) == ["scontrol ping"]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.command import FileUploadCommand, FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.state import StateStage
from pyinfra.api.util import get_file_io
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state

ANY_ARGUMENTS = "*"
GLOBAL_ARGUMENTS = frozenset(name for name, _ in all_global_arguments())

Shell = Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]]


class HarnessError(AssertionError):
    """The operation asks for what the test did not record."""


class FakeHost:
    """Stands in for pyinfra's Host inside one operation: recorded facts, collected noops, scripted shell."""

    name = "fake"
    print_prefix = "fake: "
    in_op = True
    current_op_hash = "fake"
    connected = True
    current_op_global_arguments: Mapping[str, Any] = {}

    def __init__(self, facts: Mapping[str, Any], shell: Shell | None = None) -> None:
        self.recorded = facts
        self.asked: dict[tuple[str, str], int] = {}
        self.noops: list[str] = []
        self.said: list[str] = []
        self.shell: Shell = shell or {}
        self.ran: list[str] = []

    @property
    def data(self) -> Any:
        raise HarnessError("an operation read host.data; only deploys may, pass an argument instead")

    def get_fact(self, fact: type[FactBase], *args: Any, **kwargs: Any) -> Any:
        """The recorded answer of ``fact`` for these arguments; HarnessError where there is none."""
        if fact.name not in self.recorded:
            raise HarnessError(f"the operation asks the fact {fact.name}, which is not recorded")
        key = _fact_arguments(fact, args, kwargs)
        answer = self.recorded[fact.name]
        if key:
            if not isinstance(answer, Mapping) or not {key, ANY_ARGUMENTS} & set(answer):
                raise HarnessError(f"the operation asks {fact.name} for {key!r}, which is not recorded")
            key = key if key in answer else ANY_ARGUMENTS
            answer = answer[key]
        times = self.asked.get((fact.name, key), 0)
        self.asked[fact.name, key] = times + 1
        if isinstance(answer, Mapping) and set(answer) == {"sequence"}:
            return answer["sequence"][min(times, len(answer["sequence"]) - 1)]
        return answer

    def noop(self, description: str) -> None:
        """Collects what the operation says when there is nothing to do."""
        self.noops.append(description)

    def log(self, message: str, *_: Any) -> None:
        """Accepts pyinfra's log lines; they are not part of an operation's contract."""

    def log_styled(self, message: str, **_: Any) -> None:
        """Collects what a function says in the name of the host, as operations.util.commands.fail does."""
        self.said.append(message)

    def get_temp_filename(self, hash_key: str | None = None, *_: Any, **__: Any) -> str:
        """A temporary name that is the same in every run."""
        return f"/tmp/pyinfra-{(hash_key or 'temporary').strip('/').replace('/', '-')}"

    def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, CommandOutput]:
        """The scripted answer to ``command``; HarnessError where there is none."""
        line = command.get_raw_value() if isinstance(command, StringCommand) else str(command)
        if line not in self.shell:
            raise HarnessError(f"the operation's function runs {line!r}, which the test does not answer")
        self.ran.append(line)
        answer = self.shell[line]
        if isinstance(answer, Mapping):
            return False, CommandOutput([OutputLine("stderr", text) for text in answer["fails"]])
        return True, CommandOutput([OutputLine("stdout", text) for text in answer])


class FakeState:
    """Stands in for pyinfra's State in its execution phase."""

    is_executing = True
    current_stage = StateStage.Execute
    cwd = None
    print_output = False
    print_input = False
    failed_hosts: Sequence[Any] = ()
    config = SimpleNamespace(DIFF=False, DEFAULT_TEMP_DIR="/tmp")


@dataclass
class Outcome:
    """What one run of an operation yielded: ``commands`` as a test reads them, ``raw`` pyinfra's."""

    host: FakeHost
    raw: list[PyinfraCommand] = field(default_factory=list)

    @property
    def commands(self) -> list[str | dict[str, Any]]:
        return [_notation(command) for command in self.raw]

    @property
    def noops(self) -> list[str]:
        return self.host.noops

    def execute_functions(self, shell: Shell | None = None) -> list[str]:
        """Run the yielded FunctionCommands in order; ``shell`` answers what they run, which is returned."""
        self.host.shell = shell or self.host.shell
        with _context(self.host) as state:
            for command in self.raw:
                if isinstance(command, FunctionCommand):
                    parameters = inspect.signature(command.function).parameters
                    passed = (state, self.host) if {"state", "host"} <= set(parameters) else ()
                    command.function(*passed, *command.args, **command.kwargs)
        return self.host.ran


def run(
    operation: Callable[..., Any],
    *args: Any,
    facts: Mapping[str, Any] | None = None,
    shell: Shell | None = None,
    failed_hosts: Sequence[str] = (),
    **kwargs: Any,
) -> Outcome:
    """Run the inner generator of ``operation`` to its end against ``facts``, where ``failed_hosts`` were
    stopped before; exceptions pass through."""
    outcome = Outcome(FakeHost(facts or {}, shell))
    with _context(outcome.host) as state:
        state.failed_hosts = tuple(SimpleNamespace(name=name) for name in failed_hosts)
        for command in operation._inner(*args, **kwargs):  # type: ignore[attr-defined]
            raw = StringCommand(command.strip()) if isinstance(command, str) else command
            if not isinstance(raw, PyinfraCommand):
                raise HarnessError(f"the operation yielded {raw!r}, which pyinfra cannot execute")
            outcome.raw.append(raw)
    return outcome


def _fact_arguments(fact: type[FactBase], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The passed arguments as ``a=1, b=2``, checked against the signature of the fact's command."""
    own = {key: value for key, value in kwargs.items() if key not in GLOBAL_ARGUMENTS}
    if not args and not own:
        return ""
    command = getattr(fact, "fact", fact)().command
    try:
        bound = inspect.signature(command).bind(*args, **own)
    except TypeError as error:
        raise HarnessError(f"the fact {fact.name} is asked with wrong arguments: {error}") from error
    return ", ".join(f"{key}={value}" for key, value in sorted(bound.arguments.items()))


def _notation(command: PyinfraCommand) -> str | dict[str, Any]:
    """A command as text, an upload or a function as what it is made of; a hidden value stays hidden."""
    if isinstance(command, FileUploadCommand):
        with get_file_io(command.src, "r") as source:
            return {"upload": str(command.dest), "content": source.read()}
    if isinstance(command, FunctionCommand):
        return {
            "function": command.function.__name__,
            "args": list(command.args),
            "kwargs": dict(command.kwargs),
        }
    if command.connector_arguments:
        return {"command": str(command), **command.connector_arguments}
    return str(command)


@contextmanager
def _context(host: FakeHost) -> Iterator[FakeState]:
    """The fake host and state as pyinfra's current ones; restored also when the operation raises."""
    state = FakeState()
    before = ctx_host.get(), ctx_state.get()
    ctx_host.set(host)
    ctx_state.set(state)
    try:
        yield state
    finally:
        ctx_host.set(before[0])
        ctx_state.set(before[1])
