"""Checks run side by side, in processes of their own: one that is broken breaks nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcstate.health import run
from hpcstate.health.checks import Wrong
from hpcstate.health.decide import Look
from hpcstate.health.run import NodeCheck


def check(name: str, timeout_s: int = 20, own: bool = False, states: tuple[str, ...] = ()) -> NodeCheck:
    return NodeCheck(name, ("periodic",), "drain", timeout_s, 2, states, own)


def sound(words: Any) -> Iterator[Wrong]:
    yield from ()


def bad(words: Any) -> Iterator[Wrong]:
    yield Wrong("a user left files", "user")
    yield Wrong("the disk\nis gone")
    yield Wrong("and another")


def raises(words: Any) -> Iterator[Wrong]:
    yield Wrong("the disk is gone")
    raise OSError(5, "Input/output error")


def hangs(words: Any) -> Iterator[Wrong]:
    time.sleep(600)
    yield Wrong("never")


def dies(words: Any) -> Iterator[Wrong]:
    os._exit(3)
    yield Wrong("never")


def prints(words: Any) -> Iterator[Wrong]:
    print('{"result": "failed"}')
    yield from ()


OURS = {each.__name__: each for each in (sound, bad, raises, hangs, dies, prints)}


def results(*checks: NodeCheck, longest: float = 60) -> list[Look]:
    return run.run(checks, {}, OURS, context="periodic", longest=longest)


def test_each_says_what_it_found() -> None:
    begun = time.monotonic()
    found = results(
        check("sound"), check("bad"), check("raises"), check("hangs", 2), check("dies"), check("prints")
    )
    assert time.monotonic() - begun < 60
    assert [(each.check, each.result) for each in found] == [
        ("sound", "ok"),
        ("bad", "failed"),
        ("raises", "broken"),
        ("hangs", "broken"),
        ("dies", "broken"),
        ("prints", "ok"),
    ]
    # The node's problems, where both have one.
    assert (found[1].detail, found[1].blame) == ("the disk is gone; and another", "node")
    assert "OSError in test_run.py:" in found[2].detail and "Input/output error" in found[2].detail
    assert found[3].detail == "it did not end in 2 s" and found[4].detail == "it died"


def test_a_check_that_is_not_known_is_broken() -> None:
    (found,) = results(check("unheard_of"))
    assert found.result == "broken" and "KeyError" in found.detail


def test_all_of_them_end_in_time() -> None:
    begun = time.monotonic()
    assert [each.result for each in results(check("hangs"), check("sound"), longest=1)] == ["broken", "ok"]
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("program", "result", "detail", "blame"),
    [
        ("exit 0", "ok", "", "node"),
        ("echo the licence is away; echo more; exit 1", "failed", "the licence is away", "node"),
        ("echo user: alice left files; exit 1", "failed", "alice left files", "user"),
        ("echo usage >&2; exit 2", "broken", "it ended with 2: usage", "node"),
        ("kill -9 $$", "broken", "it ended with -9: ", "node"),
        (
            '[ "$HEALTH_CONTEXT" = periodic ] && [ -z "${SECRET-}" ] && [ "$SLURM_JOB_ID" = 7 ]',
            "ok",
            "",
            "node",
        ),
        ("sleep 100 & exit 0", "ok", "", "node"),
    ],
)
def test_a_program_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, result: str, detail: str, blame: str
) -> None:
    monkeypatch.setattr(run, "OWN", tmp_path)
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "mine").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "mine").chmod(0o755)
    redirected = program.replace("&", ">/dev/null 2>&1 &", 1) if program.startswith("sleep") else program
    (tmp_path / "mine").write_text(f"#!/bin/sh\n{redirected}\n")
    (found,) = results(check("mine", own=True))
    assert (found.result, found.detail, found.blame) == (result, detail.strip(), blame)


def test_a_program_that_is_not_there_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OWN", tmp_path)
    (found,) = results(check("mine", own=True))
    assert found.result == "broken" and "FileNotFoundError" in found.detail


def test_what_is_due() -> None:
    checks = (check("a"), check("b", states=("idle",)), check("c", states=("allocated",)))
    assert [each.name for each in run.due(checks, "periodic", set())] == ["a", "b"]
    assert [each.name for each in run.due(checks, "periodic", {7})] == ["a", "c"]
    assert run.due(checks, "prolog", set()) == ()
