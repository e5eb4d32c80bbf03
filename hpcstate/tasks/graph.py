"""The graph as doit runs it: its settings, what makes an interrupted run resumable, and what every task is
made of, actions and conditions whose errors are messages.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

from doit import doit_cmd
from doit.exceptions import TaskError, TaskFailed
from doit.reporter import ConsoleReporter
from doit.runner import MThreadRunner

from hpcstate import paths
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import PLAIN_UMASK

P = ParamSpec("P")
R = TypeVar("R")

UP_VARIABLES = {
    "yes": "yes: do not ask before something is removed or running jobs are waited for",
    "plan": "a plan that `hpcstate plan FILE --json` wrote: done only if the world is still the same",
    "drain_seconds": "how long a deploy waits for the jobs on a node (3600)",
    "force": "yes: a deploy does not wait for jobs; Slurm's daemons restart under them",
    "reboot": "yes: a node may be rebooted for NVIDIA's driver, when its jobs have ended",
}
"""Those of `up` (``./hpc up FILE --yes`` is ``doit up cluster=FILE yes=yes``), parsed by cluster/agree.py."""

VARIABLES = {
    "cluster": "the cluster file, like cluster=inventories/gpu.yaml",
    "rebuild": "images or containers that are made anew though current: rebuild=hpc-base,mpi-minimal",
    **UP_VARIABLES,
}
"""The variables that tasks read (``doit TASK name=value``), and what each is."""

COULD_NOT_RUN = 2


def settings() -> dict[str, Any]:
    """DOIT_CONFIG. SIGTERM becomes KeyboardInterrupt: doit saves its state at the end of a run only.

    Ends the run when a variable was given that no task reads: doit takes any word with ``=`` for one.
    """
    given = doit_cmd._CMDLINE_VARS or {}
    _refuse_unknown(given)
    _refuse_empty(given)
    if given.get("rebuild"):
        _demand_artifacts(given["rebuild"])
    os.umask(PLAIN_UMASK)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.excepthook = _report
    MThreadRunner.Queue = staticmethod(_WakingQueue)
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    state = paths.BUILD / "doit.sqlite3"
    _demand_writable(state)
    return {
        "backend": "sqlite3",
        "dep_file": str(state),
        "default_tasks": ["build_images"],
        "par_type": "thread",
        "reporter": _Reporter,
        "action_string_formatting": "new",
    }


def _demand_writable(state: Path) -> None:
    """Ends the run where doit cannot write its ``state``, which it would say with a traceback."""
    if os.access(state if state.exists() else state.parent, os.W_OK) and os.access(state.parent, os.W_OK):
        return
    print(f"doit: {paths.shown(state)} belongs to another user", file=sys.stderr)
    print("  hint: run it as that user, or in a checkout of your own", file=sys.stderr)
    raise SystemExit(COULD_NOT_RUN)


class _Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's own, but what failed is named by its task, not by a class of doit's."""

    desc = "console output"

    def _write_failure(self, result: Mapping[str, Any], write_exception: bool = True) -> None:
        self.write(f"{result['task'].name} failed\n")
        if write_exception:
            self.write(f"{result['exception'].get_msg()}\n")


def _refuse_unknown(given: Mapping[str, str]) -> None:
    unknown = [name for name in given if name not in VARIABLES]
    if not unknown:
        return
    import difflib

    for name in unknown:
        near = difflib.get_close_matches(name, VARIABLES, n=1)
        meant = f"did you mean {near[0]}={given[name]}? " if near else ""
        print(f"doit: there is no variable {name!r}", file=sys.stderr)
        print(f"  hint: {meant}known are: {', '.join(VARIABLES.values())}", file=sys.stderr)
    raise SystemExit(COULD_NOT_RUN)


def _refuse_empty(given: Mapping[str, str]) -> None:
    for name in ("cluster", "plan"):
        if given.get(name) == "":
            print(f"doit: {name}= has no value", file=sys.stderr)
            print(f"  hint: {name} is {VARIABLES[name]}", file=sys.stderr)
            raise SystemExit(COULD_NOT_RUN)


def _demand_artifacts(text: str) -> None:
    """Ends the run where ``rebuild=text`` names what no task makes."""
    from hpcstate.tasks.artifacts import asked_anew

    try:
        asked_anew(text)
    except HpcstateError as error:
        print(f"doit: {error}", file=sys.stderr)
        raise SystemExit(COULD_NOT_RUN) from None


class _WakingQueue(queue.Queue[Any]):
    """Where doit's main thread waits for the tasks that run side by side, for a second at a time.

    Python handles a signal between two instructions of the main thread (signal, "Execution of Python signal
    handlers"). One that comes just before that thread waits for a lock does not end the wait: an interrupt
    would be seen when the next task has ended.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        while block and timeout is None:
            try:
                return super().get(timeout=1)
            except queue.Empty:
                continue
        return super().get(block, timeout)


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """One line instead of doit's stack for an interrupted run, which a shell sees end with 130 either way."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; the next run goes on from here", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, traceback)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def action(work: Callable[P, R]) -> Callable[P, R | TaskFailed | TaskError]:
    """A doit action whose errors (HpcstateError, what the system refuses) are messages, not tracebacks. doit
    ends with 1 then."""
    return _told(work, TaskFailed)


def beginning(work: Callable[P, R]) -> Callable[P, R | TaskFailed | TaskError]:
    """The same for an action that decides whether anything is done at all: doit ends with 2."""
    return _told(work, TaskError)


def _told(
    work: Callable[P, R], kind: type[TaskFailed] | type[TaskError]
) -> Callable[P, R | TaskFailed | TaskError]:
    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | TaskFailed | TaskError:
        try:
            return work(*args, **kwargs)
        except HpcstateError as error:
            # The actions on a cluster have its file as their first argument.
            file = args[0] if args and isinstance(args[0], Path) else None
            return kind(paths.named(str(error), file) if file else str(error), report=True)
        except OSError as error:
            return kind(str(from_os(error)), report=True)

    return run


def condition(question: Callable[P, bool]) -> Callable[P, bool]:
    """A doit ``uptodate`` callable that answers no where it cannot tell: the action then says why."""

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            return question(*args, **kwargs)
        except HpcstateError:
            return False

    return ask
