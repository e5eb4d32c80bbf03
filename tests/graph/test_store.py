"""Artifacts: keyed, verified, atomic, resumable."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe, built
from hpcstate.artifact.store import Manifest, Store
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError

INPUTS = {"builder": 1, "packages": ["a", "b"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", report=lambda _: None)


def provide(
    artifact: Path, inputs: dict[str, Any], make: Callable[[Path], dict[str, str]], store: Store
) -> Manifest:
    return Recipe(artifact, inputs, make).provide(store)


def current(artifact: Path, inputs: dict[str, Any] = INPUTS) -> bool:
    return Recipe(artifact, inputs, Maker()).current


class Maker:
    """Writes ``content`` and counts how often it was asked."""

    def __init__(self, content: bytes = b"artifact") -> None:
        self.content = content
        self.runs = 0

    def __call__(self, target: Path) -> dict[str, str]:
        self.runs += 1
        (target.parent / "scratch").write_bytes(b"half")
        target.write_bytes(self.content)
        return {"tool": "1"}


def test_the_second_build_does_nothing(tmp_path: Path, store: Store) -> None:
    artifact, make = tmp_path / "out" / "image.qcow2", Maker()
    first = provide(artifact, INPUTS, make, store=store)
    before = artifact.stat().st_mtime_ns
    assert provide(artifact, INPUTS, make, store=store) == first
    assert (make.runs, artifact.stat().st_mtime_ns) == (1, before)
    assert sorted(path.name for path in artifact.parent.iterdir()) == ["image.qcow2", "image.qcow2.json"]


def test_two_runs_at_once_build_it_once(tmp_path: Path, store: Store) -> None:
    """As `doit -n 2` has them: both containers need the tools root."""
    artifact, make, entered = tmp_path / "tools.tar", Maker(), threading.Event()
    said: list[str] = []
    store.report = said.append

    def slow(target: Path) -> dict[str, str]:
        entered.set()
        time.sleep(0.3)
        return make(target)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(provide, artifact, INPUTS, slow, store=store)
        assert entered.wait(10)
        second = pool.submit(provide, artifact, INPUTS, slow, store=store)
        assert first.result() == second.result()
    assert make.runs == 1
    assert said == [f"tools.tar: waits for another run of hpcstate, which works in {tmp_path}"]


def test_another_input_is_another_artifact(tmp_path: Path, store: Store) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    assert not current(artifact, {**INPUTS, "packages": ["a"]})
    provide(artifact, {**INPUTS, "packages": ["a"]}, make, store=store)
    assert make.runs == 2


def test_going_back_comes_from_the_store(tmp_path: Path, store: Store) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    for inputs in (INPUTS, {"builder": 2}, INPUTS):
        provide(artifact, inputs, make, store=store)
    assert make.runs == 2
    assert current(artifact)


def test_a_run_killed_as_it_fetches_does_not_pass_other_bytes_off(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same size, so that only the sidecar tells them apart."""
    artifact = tmp_path / "out" / "image.qcow2"
    provide(artifact, INPUTS, Maker(b"one"), store=store)
    other = {**INPUTS, "builder": 2}
    provide(artifact, other, Maker(b"two"), store=store)
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        replace(path, target)
        if target == artifact:
            raise KeyboardInterrupt
        return target

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        provide(artifact, INPUTS, Maker(b"xxx"), store=store)
    assert artifact.read_bytes() == b"one"
    assert not current(artifact, other)
    assert not current(artifact)
    provide(artifact, other, Maker(b"xxx"), store=store)
    assert artifact.read_bytes() == b"two"


def test_an_artifact_altered_at_its_size_is_seen_and_made_good(tmp_path: Path, store: Store) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    artifact.write_bytes(make.content.upper())
    assert not current(artifact)
    provide(artifact, INPUTS, make, store=store)
    assert artifact.read_bytes() == make.content
    assert current(artifact)


def test_a_touched_artifact_is_hashed_once_and_its_sidecar_stays(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    sidecar = paths.sidecar(artifact).read_bytes()
    os.utime(artifact, (1, 1))
    assert current(artifact)
    monkeypatch.setattr("hpcstate.artifact.recipe.file_digest", lambda _: pytest.fail("hashed once more"))
    assert current(artifact)
    assert paths.sidecar(artifact).read_bytes() == sidecar
    assert make.runs == 1


def test_what_came_from_the_store_is_not_hashed_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    artifact.unlink()
    provide(artifact, INPUTS, make, store=store)
    monkeypatch.setattr("hpcstate.artifact.recipe.file_digest", lambda _: pytest.fail("hashed"))
    assert current(artifact)
    assert make.runs == 1


def test_a_sidecar_of_an_earlier_version_still_counts(tmp_path: Path, store: Store) -> None:
    artifact = tmp_path / "image.qcow2"
    manifest = provide(artifact, INPUTS, Maker(), store=store)
    paths.sidecar(artifact).write_text(replace(manifest, mtime_ns=0).to_json())
    assert "mtime_ns" not in paths.sidecar(artifact).read_text()
    assert current(artifact)


@pytest.mark.parametrize("wrong", [{"size": "8"}, {"digest": None}, {"mtime_ns": "x"}, {"key": 1}])
def test_a_manifest_with_other_kinds_of_values_is_none(tmp_path: Path, wrong: dict[str, object]) -> None:
    good = {"key": "k", "digest": "d", "size": 8, "duration": 1.0}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(good))
    assert Manifest.read(path) is not None
    path.write_text(json.dumps({**good, **wrong}))
    assert Manifest.read(path) is None


@pytest.mark.parametrize("damage", [b"artifacT", b"art", b""], ids=["changed", "truncated", "empty"])
def test_a_damaged_object_is_reported_and_rebuilt(tmp_path: Path, damage: bytes) -> None:
    reports: list[str] = []
    store = Store(tmp_path / "store", report=reports.append)
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    artifact.unlink()
    (data,) = (tmp_path / "store").glob("*/*/data")
    data.write_bytes(damage)
    provide(artifact, INPUTS, make, store=store)
    assert make.runs == 2
    assert artifact.read_bytes() == make.content
    assert any("damaged" in line for line in reports)


def test_an_object_without_manifest_does_not_exist(tmp_path: Path, store: Store) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    artifact.unlink()
    (manifest,) = (tmp_path / "store").glob("*/*/manifest.json")
    manifest.unlink()
    provide(artifact, INPUTS, make, store=store)
    assert make.runs == 2


@pytest.mark.parametrize("spoil", ["missing", "truncated", "sidecar"])
def test_a_spoilt_artifact_is_made_good(tmp_path: Path, store: Store, spoil: str) -> None:
    artifact, make = tmp_path / "image.qcow2", Maker()
    provide(artifact, INPUTS, make, store=store)
    if spoil == "missing":
        artifact.unlink()
    elif spoil == "truncated":
        artifact.write_bytes(b"art")
    else:
        paths.sidecar(artifact).write_text("{")
    assert not current(artifact)
    provide(artifact, INPUTS, make, store=store)
    assert artifact.read_bytes() == make.content
    assert make.runs == 1


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), HpcstateError("tool failed"), OSError(28, "No space left")]
)
def test_an_interrupted_build_leaves_nothing_half_done(
    tmp_path: Path, store: Store, error: BaseException
) -> None:
    artifact = tmp_path / "out" / "image.qcow2"

    def fail(target: Path) -> dict[str, str]:
        target.write_bytes(b"half")
        raise error

    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else HpcstateError
    with pytest.raises(expected):
        provide(artifact, INPUTS, fail, store=store)
    assert list(artifact.parent.iterdir()) == []
    assert not list(store.root.rglob("data"))
    make = Maker()
    provide(artifact, INPUTS, make, store=store)
    assert current(artifact)


def test_what_a_killed_build_left_is_cleared(tmp_path: Path, store: Store) -> None:
    (tmp_path / ".work.dead").mkdir()
    (tmp_path / ".work.dead" / "image.qcow2").write_bytes(b"half")
    provide(tmp_path / "image.qcow2", INPUTS, Maker(), store=store)
    assert not (tmp_path / ".work.dead").exists()


def test_the_sidecar_says_what_went_in(tmp_path: Path, store: Store) -> None:
    artifact = tmp_path / "image.qcow2"
    provide(artifact, INPUTS, Maker(), store=store)
    sidecar = json.loads(paths.sidecar(artifact).read_text())
    assert sidecar["key"] == key_of(INPUTS)
    assert sidecar["inputs"] == INPUTS
    assert sidecar["versions"] == {"tool": "1"}
    assert sidecar["size"] == len(b"artifact")


class _Remote(http.server.SimpleHTTPRequestHandler):
    def do_PUT(self) -> None:
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "remote"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: _Remote(*args, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_machine_fetches_instead_of_building(tmp_path: Path, remote: str) -> None:
    here, there = Maker(), Maker()
    provide(tmp_path / "a" / "i.qcow2", INPUTS, here, store=Store(tmp_path / "sa", remote, lambda _: None))
    provide(tmp_path / "b" / "i.qcow2", INPUTS, there, store=Store(tmp_path / "sb", remote, lambda _: None))
    assert (here.runs, there.runs) == (1, 0)
    assert (tmp_path / "b" / "i.qcow2").read_bytes() == here.content


def test_a_truncated_remote_object_is_built_instead(tmp_path: Path, remote: str) -> None:
    provide(tmp_path / "a" / "i.qcow2", INPUTS, Maker(), store=Store(tmp_path / "sa", remote, lambda _: None))
    (data,) = (tmp_path / "remote").glob("*/*/data")
    data.write_bytes(b"art")
    reports: list[str] = []
    make = Maker()
    provide(tmp_path / "b" / "i.qcow2", INPUTS, make, store=Store(tmp_path / "sb", remote, reports.append))
    assert make.runs == 1
    assert any("damaged" in line for line in reports)


@pytest.mark.parametrize("name", ["data", "manifest.json"])
def test_a_remote_that_sends_without_end_is_cut_off(tmp_path: Path, remote: str, name: str) -> None:
    provide(tmp_path / "a" / "i.qcow2", INPUTS, Maker(), store=Store(tmp_path / "sa", remote, lambda _: None))
    (sent,) = (tmp_path / "remote").glob(f"*/*/{name}")
    sent.write_bytes(b" " * (2 << 20))
    reports: list[str] = []
    make = Maker()
    provide(tmp_path / "b" / "i.qcow2", INPUTS, make, store=Store(tmp_path / "sb", remote, reports.append))
    assert make.runs == 1
    assert any("did not deliver" in line and "more than" in line for line in reports)


def test_a_remote_object_without_a_manifest_is_built_instead(tmp_path: Path, remote: str) -> None:
    provide(tmp_path / "a" / "i.qcow2", INPUTS, Maker(), store=Store(tmp_path / "sa", remote, lambda _: None))
    (sent,) = (tmp_path / "remote").glob("*/*/manifest.json")
    sent.write_text("<html>log in first</html>")
    reports: list[str] = []
    make = Maker()
    provide(tmp_path / "b" / "i.qcow2", INPUTS, make, store=Store(tmp_path / "sb", remote, reports.append))
    assert make.runs == 1
    assert any("its manifest is none" in line for line in reports)


def test_a_dead_remote_is_no_obstacle(tmp_path: Path) -> None:
    reports: list[str] = []
    store = Store(tmp_path / "store", "http://127.0.0.1:1", reports.append)
    make = Maker()
    provide(tmp_path / "i.qcow2", INPUTS, make, store=store)
    assert make.runs == 1
    assert reports


def test_a_key_refuses_what_carries_the_machine_in() -> None:
    with pytest.raises(TypeError):
        key_of({"path": Path("image.yaml")})


def test_a_foreign_file_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    assert Manifest.read(tmp_path / "x.json") is None


def test_the_state_says_what_lies_there(tmp_path: Path, store: Store) -> None:
    wanted = Recipe(tmp_path / "image.qcow2", lambda: INPUTS, Maker())
    other = Recipe(wanted.path, {**INPUTS, "builder": 2}, Maker())
    assert (wanted.state, wanted.stored(store), built(wanted.path)) == ("missing", False, None)
    manifest = wanted.provide(store)
    assert (wanted.state, wanted.stored(store), built(wanted.path)) == ("current", True, manifest)
    assert (other.state, other.stored(store)) == ("outdated", False)
    wanted.path.write_bytes(b"half")
    assert wanted.state == "outdated"


def test_what_no_store_keeps_is_made_again(tmp_path: Path, store: Store) -> None:
    make = Maker()
    recipe = Recipe(tmp_path / "seed.raw", INPUTS, make, keep=False)
    recipe.provide(store)
    assert not recipe.stored(store)
    recipe.clean()
    recipe.provide(store)
    assert make.runs == 2


def test_cleaning_leaves_the_store(tmp_path: Path, store: Store) -> None:
    recipe = Recipe(tmp_path / "out" / "image.qcow2", INPUTS, Maker())
    recipe.provide(store)
    (recipe.path.parent / ".work.killed").mkdir()
    recipe.clean()
    assert list(recipe.path.parent.iterdir()) == []
    assert recipe.stored(store)
    recipe.clean()


def test_written_anew_it_replaces_what_is_there_only_when_whole(tmp_path: Path) -> None:
    artifact, work = tmp_path / "app.sif", tmp_path / "work"
    for content in (b"one", b"two"):
        work.mkdir()
        Recipe(artifact, INPUTS, Maker(content)).write(work, time.monotonic())
        assert artifact.read_bytes() == content
    work.mkdir()

    def fails(target: Path) -> dict[str, str]:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(HpcstateError, match="No space left"):
        Recipe(artifact, INPUTS, fails).write(work, time.monotonic())
    assert artifact.read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.sif", "app.sif.json"]
