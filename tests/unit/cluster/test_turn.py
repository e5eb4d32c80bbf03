"""Two commands on one cluster: the second waits, and says for whom."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.cluster import turn as module
from hpcstate.cluster.turn import at_work, turn
from hpcstate.paths import ClusterPaths

HOLDER = """
import sys, time
from hpcstate.cluster.turn import turn
with turn(["gpu"], ["hpcstate", "up", "it's mine.yaml"], print):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("HPCSTATE_BUILD", str(tmp_path))
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    monkeypatch.setattr(module, "_TELL", 0.02)


def test_the_second_waits_and_says_for_whom() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=paths.ROOT, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        told = threading.Event()
        said: list[str] = []
        entered: list[bool] = []

        def second() -> None:
            def say(text: str) -> None:
                said.append(text)
                told.set()

            with turn(["gpu"], ["hpcstate", "stop"], say):
                entered.append(first.poll() is not None)

        waiting = threading.Thread(target=second)
        waiting.start()
        assert told.wait(20)
        while len(said) < 2:
            time.sleep(0.01)
        assert entered == []
        # However the first one ends, its turn is over.
        first.send_signal(signal.SIGKILL)
        first.wait()
        waiting.join(20)
    assert entered == [True]
    line, *again = said
    assert again and all(text.startswith("gpu: still waits (") for text in again), "told again while it waits"
    assert line.startswith("gpu: waits for ")
    assert "hpcstate up" in line and "mine.yaml" in line and f"process {first.pid}" in line


def test_who_is_at_work_is_seen_without_waiting() -> None:
    assert at_work("a") == "", "nobody ever was"
    with turn(["a"], ["hpcstate", "roll", "start", "gpu.yaml"], pytest.fail):
        assert "hpcstate roll start gpu.yaml (process " in at_work("a") and ", since 2" in at_work("a")
    assert at_work("a") == ""
    ClusterPaths.of("a").turn.write_text("root: hpcstate up (process 1, since 2026)\n")
    assert at_work("a") == "", "what a killed one has left"


def test_other_clusters_are_not_waited_for() -> None:
    with turn(["a", "b"], ["x"], pytest.fail), turn(["c"], ["y"], pytest.fail):
        assert ClusterPaths.of("a").turn.read_text().strip()


STARTER = """
import subprocess, sys
from hpcstate.cluster.turn import held, turn
with turn(["gpu"], ["hpcstate", "up"], print):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin, pass_fds=held())
    print(child.pid, flush=True)
    child.wait()
"""


def test_what_a_killed_one_has_started_keeps_the_turn() -> None:
    """pyinfra goes on with its deploy when `up` is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=paths.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None and first.stdin is not None
        assert int(first.stdout.readline()) > 0
        first.kill()
        first.wait()
        told, entered = threading.Event(), threading.Event()

        def second() -> None:
            with turn(["gpu"], ["hpcstate", "stop"], lambda _: told.set()):
                entered.set()

        waiting = threading.Thread(target=second)
        waiting.start()
        assert told.wait(10) and not entered.wait(0.2)
        first.stdin.close()
        waiting.join(10)
        assert entered.is_set()


def test_who_is_done_is_not_named() -> None:
    with turn(["a"], ["x"], pytest.fail):
        pass
    assert ClusterPaths.of("a").turn.read_text() == ""
    with turn(["a"], ["x"], pytest.fail):
        pass


def test_a_file_that_was_removed_while_it_was_held_is_nobodys() -> None:
    """destroy removes it with its folder, while somebody waits for it."""
    file = ClusterPaths.of("a").turn
    with turn(["a"], ["destroy"], pytest.fail):
        file.unlink()
        with turn(["a"], ["start"], pytest.fail):
            assert "start" in file.read_text()
