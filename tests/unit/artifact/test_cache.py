"""The store's size: what goes when it is over its limit, and what never does."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact import cache
from hpcstate.artifact.cache import CachedObject, going
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import DEFAULT_LIMIT, LIMIT, Store, size_of
from hpcstate.errors import HpcstateError
from hpcstate.files import alone, write_atomically

OLD, MIDDLE, NEW = CachedObject("old", 10, 1.0), CachedObject("middle", 20, 2.0), CachedObject("new", 30, 3.0)
BROKEN = CachedObject("broken", 5, 9.0, whole=False)
ALL = [NEW, OLD, BROKEN, MIDDLE]


@pytest.mark.parametrize(
    ("limit", "kept", "gone"),
    [
        (100, set(), [BROKEN]),
        (60, set(), [BROKEN]),
        (59, set(), [BROKEN, OLD]),
        (50, set(), [BROKEN, OLD]),
        (49, set(), [BROKEN, OLD, MIDDLE]),
        (59, {"old"}, [BROKEN, MIDDLE]),
        (0, {"old", "new"}, [BROKEN, MIDDLE]),
        (0, {"old", "middle", "new", "broken"}, [BROKEN]),
        (0, set(), [BROKEN, OLD, MIDDLE, NEW]),
    ],
)
def test_the_least_recently_used_go_first(limit: int, kept: set[str], gone: list[CachedObject]) -> None:
    assert going(ALL, limit, kept) == gone


def test_nothing_goes_from_an_empty_store() -> None:
    assert going([], 0, set()) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50G", 50 * 10**9),
        ("50GB", 50 * 10**9),
        (" 1.5 tb ", 1_500_000_000_000),
        ("512MiB", 512 << 20),
        ("2Ki", 2048),
        ("1000", 1000),
        ("0", 0),
        ("7B", 7),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert size_of(text, "x") == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "5X", "1e9", "G", "1.G", "٣..", "50G 1"])
def test_what_is_no_size_is_a_message(text: str) -> None:
    with pytest.raises(HpcstateError, match=r"--limit: .* is no size"):
        size_of(text, "--limit")


def test_the_limit_is_read_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    assert Store.default().limit == DEFAULT_LIMIT
    monkeypatch.setenv(LIMIT, "2G")
    assert Store.default().limit == 2 * 10**9
    monkeypatch.setenv(LIMIT, "lots")
    with pytest.raises(HpcstateError, match=f"{LIMIT}: 'lots' is no size"):
        Store.default()


class House:
    """A build/ with a store, and what it said. An artifact has 1000 bytes."""

    def __init__(self, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.said = at / "build", list[str]()
        monkeypatch.setattr(paths, "BUILD", self.at)
        monkeypatch.setattr(paths, "STORE", self.at / "store")
        self.store = Store(paths.STORE, report=self.said.append)

    def recipe(self, name: str, version: int = 1, size: int = 1000) -> Recipe:
        def make(target: Path) -> dict[str, str]:
            target.write_bytes(bytes(size))
            return {}

        return Recipe(self.at / name / f"{name}.sif", {"name": name, "version": version}, make)

    def build(self, name: str, version: int = 1, *, used: float = 0) -> str:
        """Build it, say that it was used at ``used``, and return its key."""
        key = self.recipe(name, version).provide(self.store).key
        if used:
            os.utime(self.object(key) / "manifest.json", (used, used))
        return key

    def object(self, key: str) -> Path:
        return self.store.root / key[:2] / key

    def stored(self) -> set[str]:
        return {cached.key for cached in cache.look(self.store).objects}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


def test_what_build_names_stays_and_the_rest_goes(house: House) -> None:
    first, second = house.build("one", 1), house.build("one", 2)
    assert cache.named() == {second: (house.at / "one/one.sif",)}
    assert house.stored() == {first, second}
    dry = cache.collect(house.store, 0, dry_run=True)
    assert [cached.key for cached in dry.gone] == [first]
    assert house.stored() == {first, second}
    removal = cache.collect(house.store, 0)
    assert [cached.key for cached in removal.gone] == [first]
    assert house.stored() == {second}
    assert removal.left == cache.look(house.store).size
    assert removal == dry


def test_a_sidecar_counts_also_where_its_artifact_is_gone(house: House) -> None:
    key = house.build("one")
    (house.at / "one/one.sif").unlink()
    assert cache.collect(house.store, 0).gone == ()
    assert house.build("one") == key
    assert "from the store" in house.said[-1]


def test_fetching_is_using_whatever_the_file_system_keeps(house: House) -> None:
    first, second = house.build("one", 1, used=1000), house.build("one", 2, used=2000)
    house.build("one", 1)
    house.build("one", 3)
    assert [cached.key for cached in cache.collect(house.store, 3500).gone] == [second]
    assert first in house.stored()


def test_adding_over_the_limit_removes_and_says_so(house: House) -> None:
    first, second = house.build("one", 1, used=1000), house.build("one", 2, used=2000)
    house.store.limit = 3000
    third = house.build("one", 3)
    assert house.stored() == {second, third}
    assert house.said[-1].startswith(
        f"store: over its limit of 3 kB; removed what was not used for longest: {first[:12]}"
    )


def test_what_was_just_added_stays_whatever_the_limit(house: House) -> None:
    house.store.limit = 0
    key = house.build("one")
    assert house.stored() == {key}
    assert house.said == []


def test_a_store_that_cannot_be_pruned_fails_no_build(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.build("one", 1)
    house.store.limit = 0

    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("hpcstate.artifact.cache._remove", lambda root, gone: refused(root))
        house.build("one", 2)
    assert "could not be pruned" in house.said[-1] and "Permission denied" in house.said[-1]
    assert house.recipe("one", 2).current


def test_a_damaged_manifest_and_foreign_files_are_no_traceback(house: House) -> None:
    good, bad, half = (house.build(name) for name in ("one", "two", "three"))
    (house.object(bad) / "manifest.json").write_bytes(b"\xff{")
    (house.object(half) / "data").unlink()
    (house.store.root / "README").write_text("mine")
    (house.store.root / "photos").mkdir()
    (house.store.root / good[:2] / "x").write_text("mine")
    (house.store.root / "ff").write_text("a file")
    (house.store.root / good[:2] / ".new.file").write_text("mine")
    link = house.store.root / "ee"
    link.symlink_to("/etc")
    (house.at / "strange.json").write_text("[" * 100_000)
    (house.at / "list.json").write_text("[1, 2]")
    os.mkfifo(house.at / "pipe.json")
    content = cache.look(house.store)
    assert {cached.key for cached in content.objects if cached.whole} == {good}
    assert {cached.key for cached in content.objects if not cached.whole} == {bad, half}
    assert {path.name for path in content.foreign} == {"README", "photos", "x", "ff", "ee"}
    assert {cached.key for cached in cache.collect(house.store, DEFAULT_LIMIT).gone} == {bad, half}
    assert {path.name for path in cache.look(house.store).foreign} == {"README", "photos", "x", "ff", "ee"}


def test_a_system_and_work_that_goes_on_are_not_gone_through(house: House) -> None:
    key = house.build("root")
    sidecar = (house.at / "root/root.sif.json").read_text()
    for folder in ("tools/usr", "tools/etc", "tools/srv", ".work.x"):
        write_atomically(house.at / folder / "a.sif.json", sidecar)
    assert cache.named() == {key: (house.at / "root/root.sif",)}


def test_what_killed_runs_left_goes(house: House) -> None:
    key = house.build("one")
    above = house.object(key).parent
    for name in (".new.now", ".new.old"):
        (above / name).mkdir()
        (above / name / "data").write_text("half")
    for path in (above / ".new.old/data", above / ".new.old"):
        os.utime(path, (1000, 1000))
    (house.store.root / ".gone.x/object").mkdir(parents=True)
    assert cache.look(house.store).foreign == ()
    cache.collect(house.store, 0)
    assert sorted(path.name for path in above.iterdir()) == sorted([".new.now", key])
    assert not (house.store.root / ".gone.x").exists()


def test_what_was_used_since_it_was_chosen_stays(house: House) -> None:
    first = house.build("one", 1, used=1000)
    house.build("one", 2)
    (chosen,) = (cached for cached in cache.look(house.store).objects if cached.key == first)
    os.utime(house.object(first) / "manifest.json")
    assert not cache._remove(house.store.root, chosen)
    assert first in house.stored()
    assert not cache._remove(house.store.root, replace(chosen, key="0" * 64))


def test_two_at_once_wait_for_each_other(house: House) -> None:
    house.build("one", 1)
    house.build("one", 2)
    found: list[cache.Pruned] = []
    threads = [threading.Thread(target=lambda: found.append(cache.collect(house.store, 0))) for _ in range(4)]
    with alone(house.store.root):
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert found == []
    for thread in threads:
        thread.join()
    assert sorted(len(removal.gone) for removal in found) == [0, 0, 0, 1]
    assert any("waits for another run" in line for line in house.said)


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert cache.look(store).objects == ()
    assert cache.collect(store, 0) == cache.Pruned((), 0)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2 * 10**9, "2 GB"), (10**12, "1 TB")],
)
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert cache.shown(size) == text
