"""``hpcstate cache``: what it says, in words and in JSON, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import LIMIT, Store
from hpcstate.cli import main


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of two objects, the second of which build/ names."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(paths, "STORE", tmp_path / "store")
    monkeypatch.delenv(LIMIT, raising=False)

    def make(target: Path) -> dict[str, str]:
        target.write_bytes(bytes(1000))
        return {}

    made = [Recipe(tmp_path / "a.sif", {"version": number}, make) for number in (1, 2)]
    found = [recipe.provide(Store.default()).key for recipe in made]
    os.utime(paths.STORE / found[0][:2] / found[0] / "manifest.json", (86400, 86400))
    return found


def test_status_says_what_there_is(keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (paths.STORE / "mine.txt").write_text("")
    assert main(["cache", "status"]) == 0
    header, new, old, whole, foreign = capsys.readouterr().out.splitlines()
    assert header.split() == ["object", "size", "last", "used", "named", "by"]
    assert new.split()[0] == keys[1][:12] and new.endswith("a.sif")
    assert old.split()[0] == keys[0][:12] and "1970-01-0" in old and old.endswith("-")
    assert "2 objects" in whole and whole.endswith(f"within its limit of 50 GB ({LIMIT})")
    assert "mine.txt" in foreign


def test_status_as_json(keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["store"], said["limit"], said["foreign"]) == (str(tmp_path / "store"), 50 * 10**9, [])
    assert [cached["key"] for cached in said["objects"]] == keys[::-1]
    assert [cached["artifacts"] for cached in said["objects"]] == [[str(tmp_path / "a.sif")], []]
    assert said["objects"][1]["used"] == "1970-01-02T00:00:00+00:00"
    assert said["size"] == sum(cached["size"] for cached in said["objects"])


def test_gc_removes_what_nothing_names(keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "gc"]) == 0
    assert "removed 0 objects" in capsys.readouterr().out
    assert main(["cache", "gc", "--limit", "0", "--dry-run"]) == 0
    assert f"would remove {keys[0][:12]}" in capsys.readouterr().out
    assert Store.default().has(keys[0])
    assert main(["cache", "gc", "--limit", "0"]) == 0
    said = capsys.readouterr().out
    assert f"  removed {keys[0][:12]}" in said and "over the limit of 0 bytes all the same" in said
    assert [Store.default().has(key) for key in keys] == [False, True]


def test_gc_as_json(
    keys: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LIMIT, "1K")
    assert main(["cache", "gc", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [cached["key"] for cached in said["removed"]] == keys[:1]
    assert (said["limit"], said["dry_run"]) == (1000, False)
    assert said["freed"] > 1000 and said["size"] > 1000


@pytest.mark.parametrize("words", [["gc", "--limit", "much"], ["gc", "--limit"], ["gone"], []])
def test_what_cannot_be_done_is_2(
    keys: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_wrong_limit_is_2_and_names_its_variable(
    keys: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LIMIT, "50 apples")
    assert main(["cache", "status"]) == 2
    assert f"{LIMIT}: '50 apples' is no size" in capsys.readouterr().err


def test_an_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(paths, "STORE", tmp_path / "store")
    assert main(["cache", "status"]) == 0
    assert main(["cache", "gc"]) == 0
    assert "0 objects, 0 bytes" in capsys.readouterr().out
