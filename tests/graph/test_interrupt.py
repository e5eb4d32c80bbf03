"""What a person sees who interrupts doit: one line, soon, whether tasks ran one by one or side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from _thread import interrupt_main
from pathlib import Path

import pytest
from doit.runner import MThreadRunner

from hpcstate import paths
from hpcstate.tasks.graph import settings

DODO = """\
from hpcstate.run import run_visibly
from hpcstate.tasks.graph import settings

DOIT_CONFIG = {{**settings(), "dep_file": "{state}", "default_tasks": ["quick", "slow"]}}

def task_quick():
    return {{"actions": [lambda: None]}}

def task_slow():
    words = ["sh", "-c", "{prelude} echo begun; exec sleep 60"]
    return {{"actions": [(lambda: run_visibly(words) == 0,)], "task_dep": ["quick"], "verbosity": 2}}
"""


SIDE_BY_SIDE = ("-n", "3")
STUBBORN = "trap '' INT TERM;"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("side_by_side", "prelude"),
    [((), ""), (SIDE_BY_SIDE, ""), (SIDE_BY_SIDE, STUBBORN)],
    ids=["one by one", "side by side", "stubborn"],
)
def test_an_interrupted_run_is_one_line_and_nothing_goes_on(
    tmp_path: Path, number: int, side_by_side: tuple[str, ...], prelude: str
) -> None:
    (tmp_path / "dodo.py").write_text(DODO.format(state=tmp_path / "doit.sqlite3", prelude=prelude))
    doit = Path(sys.executable).with_name("doit")
    words = [str(doit), "--dir", str(tmp_path), *side_by_side]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        for line in run.stdout:
            if line.startswith("begun"):
                break
        # A terminal's Ctrl-C reaches all that was started.
        os.killpg(run.pid, number)
        # Until the last process that has its output is gone.
        said = run.communicate(timeout=120)[1]
    assert said.splitlines() == ["interrupted; the next run goes on from here"]
    assert run.returncode in (130, -signal.SIGINT)


def test_an_interrupt_that_ends_no_wait_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MThreadRunner, "Queue", MThreadRunner.Queue)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.getsignal(signal.SIGTERM)
    settings()
    signal.signal(signal.SIGTERM, before)
    results = MThreadRunner.Queue()
    # As a signal that comes just before the wait: noted, and nothing wakes who waits.
    interrupt = threading.Timer(0.2, interrupt_main)
    ended = threading.Timer(10, results.put, ["the task has ended"])
    interrupt.start()
    ended.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            results.get()
        assert results.empty()
    finally:
        ended.cancel()
