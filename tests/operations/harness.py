"""Run one operation against recorded facts and compare what it would do.

An operation of ours is fact, difference, change or noop. Here its inner generator runs with a fake host whose
facts are recorded answers, and the yielded commands, or the noop, are compared. Nothing is executed.

Data-driven cases: ``tests/operations/<module>.<operation>/<case>.json`` is run by ``test_operations.py``
(``slurm.configuration/changed_port.json`` runs ``operations.slurm.configuration``). The keys of a case::

    {
      "about":    "why this case exists; free text",
      "args":     ["/etc/slurm"],                      positional arguments, default []
      "kwargs":   {"reason": "hpcstate: x"},           keyword arguments, default {}
      "facts": {
        "facts.slurm.SlurmNodes": {"compute-01": {}},  a fact without arguments: its answer
        "files.File": {"path=/etc/slurm/slurm.conf": {"mode": 644}},   one with arguments: by the arguments
        "facts.slurm.SlurmJobs": {"node=compute-01": {"sequence": [[7], []]}}     successive answers
      },
      "commands": ["systemctl restart slurmd",         what it must yield, in order
                   {"command": "cat > /etc/motd", "_stdin": ["line 1", "line 2"]},    with its own arguments
                   {"upload": "/etc/slurm/slurm.conf", "content": ["line 1", "line 2"]},
                   {"function": "wait_until_free", "args": ["compute-01"], "kwargs": {}}],
      "noop":     "compute-01 is already drained",     the text that host.noop must get; with "commands": []
      "error":    "OperationError: text in its message",     instead of commands and noop
      "after":    {"facts.slurm.SlurmNodes": {}},      facts the commands changed: a second run must be a noop
      "shell":    {"scontrol ping": ["is UP"], "false": {"fails": ["why"]}},    answers for FunctionCommands
      "ran":      ["scontrol ping"],                   what the FunctionCommands then ran, in order
      "secrets":  ["hunter2"]                          texts that no command line may contain
    }

A case has either ``commands`` or ``error``; ``"commands": []`` demands that ``host.noop`` was called. A fact
is named as pyinfra names it (``FactBase.name``): ``facts.slurm.SlurmNodes`` for ours, ``files.File`` for
theirs. The arguments are those the operation passed, by name, sorted: ``a=1, b=2``; ``*`` answers for any. It
is a failure to ask a fact that is not recorded, or with arguments it does not have, and to record one that
nobody asked; reading ``host.data`` is one, because only deploys may. ``content`` or ``_stdin`` as a list
is lines, each ended by a newline. FunctionCommands are executed only in a case with ``shell`` or ``ran``.

From Python, where arguments are no JSON (a dataclass, a StringIO)::

    outcome = run(slurm.configuration, impact, facts={"files.File": {"*": None}}, path="/etc/slurm")
    assert outcome.commands == ["scontrol reconfigure"]
    assert outcome.noops == []
    assert outcome.execute_functions(shell={"scontrol ping": ["UP"]}) == ["scontrol ping"]
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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
CASE_KEYS = frozenset(
    ("about", "args", "kwargs", "facts", "commands", "noop", "error", "after", "shell", "ran", "secrets")
)

Shell = Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]]


class HarnessError(AssertionError):
    """The case and the operation do not fit each other: an unrecorded fact, an unknown key of the case."""


class FakeHost:
    """Stands in for pyinfra's Host inside one operation: recorded facts, collected noops, scripted shell."""

    name = "fake"
    print_prefix = "fake: "
    in_op = True
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

    def unasked(self) -> list[str]:
        """The recorded facts, or arguments of one, that nobody asked."""
        plain = {fact for fact, key in self.asked if not key}
        missing = []
        for fact, answer in self.recorded.items():
            keyed = {key for name, key in self.asked if name == fact and key}
            if keyed:
                missing += [f"{fact} for {key!r}" for key in answer if key not in keyed]
            elif fact not in plain:
                missing.append(fact)
        return missing

    def noop(self, description: str) -> None:
        """Collects what the operation says when there is nothing to do."""
        self.noops.append(description)

    def log(self, message: str, *_: Any) -> None:
        """Accepts pyinfra's log lines; they are not part of an operation's contract."""

    def log_styled(self, message: str, **_: Any) -> None:
        """Collects what a function says in the name of the host, as operations.commands.fail does."""
        self.said.append(message)

    def get_temp_filename(self, hash_key: str | None = None, *_: Any, **__: Any) -> str:
        """A temporary name that is the same in every run."""
        return f"/tmp/pyinfra-{(hash_key or 'temporary').strip('/').replace('/', '-')}"

    def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, CommandOutput]:
        """The scripted answer to ``command``; HarnessError where there is none."""
        line = command.get_raw_value() if isinstance(command, StringCommand) else str(command)
        if line not in self.shell:
            raise HarnessError(f"the operation's function runs {line!r}, which the case does not answer")
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
    config = SimpleNamespace(DIFF=False, DEFAULT_TEMP_DIR="/tmp")


@dataclass
class Outcome:
    """What one run of an operation yielded. ``commands`` are in the notation of a case, ``raw`` pyinfra's."""

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
    **kwargs: Any,
) -> Outcome:
    """Run the inner generator of ``operation`` to its end against ``facts``; exceptions pass through."""
    outcome = Outcome(FakeHost(facts or {}, shell))
    with _context(outcome.host):
        for command in operation._inner(*args, **kwargs):  # type: ignore[attr-defined]
            raw = StringCommand(command.strip()) if isinstance(command, str) else command
            if not isinstance(raw, PyinfraCommand):
                raise HarnessError(f"the operation yielded {raw!r}, which pyinfra cannot execute")
            outcome.raw.append(raw)
    return outcome


def run_case(operation: Callable[..., Any], case: Mapping[str, Any]) -> None:
    """Run ``operation`` as ``case`` says (see the module's docstring) and assert what it demands."""
    if unknown := set(case) - CASE_KEYS:
        raise HarnessError(f"unknown keys in the case: {sorted(unknown)}")
    if ("commands" in case) == ("error" in case):
        raise HarnessError("a case has either 'commands' or 'error'")
    args, kwargs, facts = case.get("args", []), case.get("kwargs", {}), case.get("facts", {})
    if "error" in case:
        _expect_error(operation, args, kwargs, facts, case["error"])
        return
    outcome = run(operation, *args, facts=facts, **kwargs)
    _demand("the commands", outcome.commands, [_expected(command) for command in case["commands"]])
    _demand_no_secret(outcome, case.get("secrets", []))
    if not case["commands"] and not outcome.noops:
        raise HarnessError("the operation changes nothing and does not say so by host.noop()")
    if "noop" in case:
        _demand("the noop", outcome.noops, [case["noop"]])
    if "shell" in case or "ran" in case:
        _demand("what the functions ran", outcome.execute_functions(case.get("shell")), case.get("ran", []))
    _demand("recorded facts that nobody asked", outcome.host.unasked(), [])
    if "after" in case:
        second = run(operation, *args, facts={**facts, **case["after"]}, **kwargs)
        _demand("the commands of a second run", second.commands, [])
        if not second.noops:
            raise HarnessError("the second run does not say by host.noop() that nothing changes")


def case_files(root: Path) -> list[Path]:
    """All the case files below ``root``, sorted: ``<module>.<operation>/<case>.json``."""
    return sorted(root.glob("*.*/*.json"))


def run_case_file(path: Path) -> None:
    """Run one case file; its folder names the operation."""
    module, _, name = path.parent.name.partition(".")
    operation = getattr(importlib.import_module(f"operations.{module}"), name)
    run_case(operation, json.loads(path.read_text(encoding="utf-8")))


def _demand(what: str, actual: object, expected: object) -> None:
    """AssertionError that shows both, because pytest explains a bare assert only in test modules."""
    if actual != expected:
        raise AssertionError(f"{what}:\n{_shown(actual)}\nexpected:\n{_shown(expected)}")


def _shown(value: object) -> str:
    return json.dumps(value, indent=2, default=repr, ensure_ascii=False)


def _demand_no_secret(outcome: Outcome, secrets: Sequence[str]) -> None:
    """A secret in argv can be read by every user of the node: it must not be in the unmasked line either."""
    for command in outcome.raw:
        if isinstance(command, StringCommand) and any(s in command.get_raw_value() for s in secrets):
            raise AssertionError(f"a secret in a command line: {command}")


def _expect_error(operation: Callable[..., Any], args: Any, kwargs: Any, facts: Any, expected: str) -> None:
    kind, _, message = expected.partition(": ")
    try:
        outcome = run(operation, *args, facts=facts, **kwargs)
    except HarnessError:
        raise
    except Exception as error:
        if kind not in {cls.__name__ for cls in type(error).__mro__} or message not in str(error):
            raise AssertionError(f"{type(error).__name__}: {error}\nexpected:\n{expected}") from error
    else:
        raise HarnessError(f"expected {expected!r}, but the operation yielded {outcome.commands}")


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
    """A command in the notation of a case; a hidden value stays hidden."""
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


def _expected(command: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(command, dict) and "function" in command:
        return {"args": [], "kwargs": {}, **command}
    if isinstance(command, dict):
        lines = {key: command[key] for key in ("content", "_stdin") if isinstance(command.get(key), list)}
        return {**command, **{key: "".join(f"{line}\n" for line in text) for key, text in lines.items()}}
    return command


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
