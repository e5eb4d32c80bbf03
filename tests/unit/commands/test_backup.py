"""``hpcstate backup`` and ``restore`` against a controller that answers from a table."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from hpcstate import cli, paths
from hpcstate.cli import COULD_NOT_RUN, FINDINGS, OK
from hpcstate.cluster import backup, restore
from hpcstate.cluster import turn as turns
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node import ssh
from hpcstate.paths import ClusterPaths
from hpcstate.run import Result
from tests.unit.fake_live import FakeLive, failing

GPU = str(paths.ROOT / "inventories" / "gpu.yaml")
NAME = "gpu"
CATALOG = b""
LOOK = """\
slurm 24.11.5
next 8
jobs 1 PENDING
mariadb 11.8.3
created 100
recorded 7
since 0
associations 3
"""


class Controller:
    """What the controller says, by the action of its program; ``got`` is what it was sent."""

    def __init__(self) -> None:
        self.look = LOOK
        self.fails = ""
        self.asked: list[str] = []
        self.got: dict[str, bytes] = {}

    def answer(self, node: str, script: str) -> Result | str:
        words = next(line for line in script.splitlines() if line.startswith("set -- "))
        action = words.removeprefix("set -- ")
        self.asked.append(action)
        if self.fails and action == self.fails:
            return failing(1, "it is broken")
        return {"look": self.look, "take": "stopped 3\ntaken 1795798320\n"}.get(action, "")


class StreamLive(FakeLive):
    """Parts come from a table, and go into one."""

    def __init__(self, controller: Controller, cluster: Cluster) -> None:
        super().__init__(controller.answer, cluster)
        self.controller = controller

    def __enter__(self) -> StreamLive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def receive(self, node: str, script: str, *, timeout: float) -> Iterator[IO[bytes]]:
        del timeout
        result = self.controller.answer(node, script)
        if isinstance(result, Result):
            raise HpcstateError("sh exited with 1", where=node)
        yield io.BytesIO(self.controller.asked[-1].encode() * 100)

    def send(self, node: str, script: str, chunks: Iterable[bytes], *, timeout: float) -> str:
        del timeout
        content = b"".join(chunks)
        result = self.controller.answer(node, script)
        if isinstance(result, Result):
            raise HpcstateError("sh exited with 1", where=node)
        self.controller.got[self.controller.asked[-1]] = content
        return ""


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Controller:
    """A cluster with keys, below a folder of its own."""
    found = Controller()
    build = tmp_path / "build"
    monkeypatch.setattr(paths, "BUILD", build)
    monkeypatch.setattr(paths, "BACKUPS", build / "backups")
    monkeypatch.setattr(paths, "SIGNING_KEY", build / "keys" / "containers.pem")
    monkeypatch.setattr(paths, "PUBLIC_KEY", build / "keys" / "containers.pub.pem")
    for path, text in ((build / NAME / "secrets", "ssh_key"), (build / "keys", "containers.pem")):
        path.mkdir(parents=True)
        (path / text).write_text(f"secret {text}")
    (build / NAME / "secrets" / "owner").write_text("0123\n")
    for module in (backup, restore, ssh):
        monkeypatch.setattr(module, "Live", lambda cluster: StreamLive(found, cluster))
    monkeypatch.setattr(backup, "commit", lambda: "2078736")
    monkeypatch.setattr(turns, "_AGAIN", 0.01)
    return found


@pytest.fixture
def name() -> str:
    from hpcstate.schema import load

    cluster = load(Path(GPU)).cluster("hpc")
    assert cluster is not None
    return cluster.name


def archive_of(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return found


def test_the_cluster_of_the_file(name: str) -> None:
    assert name == NAME


def test_a_backup_and_what_is_in_it(
    controller: Controller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["backup", GPU, "--out", str(tmp_path / "out")]) == OK
    said = capsys.readouterr().out
    path = archive_of(tmp_path / "out")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "slurmctld stood still for 3 s; jobs went on" in said
    assert "in the clear" in said
    assert controller.asked == ["look", "take", "show state", "show database", "show catalog", "clear"]
    assert cli.main(["backup", GPU, "--verify", str(path), "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert found["cluster"] == NAME and found["owner"] == "0123" and found["taken_s"] == 1795798320
    assert (found["next_job"], found["recorded"], found["jobs"]) == (8, 7, {"PENDING": 1})
    assert [part["name"] for part in found["parts"]] == [
        "keys.tar",
        "cluster.yaml",
        "state.tar.zst",
        "database.sql.zst",
        "catalog.yaml",
    ]
    assert controller.asked[-1] == "clear", "to verify is to read"


def test_for_programs(controller: Controller, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backup", GPU, "--json", "--containers"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert Path(found["archive"]).parent == paths.BACKUPS
    assert "tree /opt/containers" in controller.asked


@pytest.mark.parametrize("broken", ["take", "show state", "show database"])
def test_what_fails_leaves_no_archive(controller: Controller, tmp_path: Path, broken: str) -> None:
    controller.fails = broken
    assert cli.main(["backup", GPU, "--out", str(tmp_path / "out")]) == COULD_NOT_RUN
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    assert controller.asked[-1] == "clear"


def test_a_database_that_is_silent_is_no_backup(
    controller: Controller, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.look = "slurm 24.11.5\nnext 8\n"
    assert cli.main(["backup", GPU]) == COULD_NOT_RUN
    assert "MariaDB does not answer" in capsys.readouterr().err
    assert controller.asked == ["look"]


def test_a_passphrase_that_is_nowhere(controller: Controller, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backup", GPU, "--passphrase-file", "/nowhere"]) == COULD_NOT_RUN
    assert "/nowhere: there is no such file" in capsys.readouterr().err
    assert controller.asked == []


@pytest.fixture
def archive(controller: Controller, tmp_path: Path) -> str:
    assert cli.main(["backup", GPU, "--out", str(tmp_path / "out")]) == OK
    controller.asked.clear()
    return str(archive_of(tmp_path / "out"))


def test_it_is_put_back(controller: Controller, archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["restore", GPU, archive, "--yes"]) == OK
    assert controller.asked == ["look", "database", "state", "swap", "look", "clear"]
    assert controller.got["database"] == b"show database" * 100
    assert controller.got["state"] == b"show state" * 100
    said = capsys.readouterr().out
    assert "next job: 8 (of the backup: 8)" in said
    assert "goes: 1 job of the queue as it is now" in said


def test_it_asks(controller: Controller, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli.main(["restore", GPU, archive]) == FINDINGS
    assert controller.asked == ["look"]


def test_a_check_changes_nothing(controller: Controller, archive: str) -> None:
    assert cli.main(["restore", GPU, archive, "--check"]) == OK
    assert controller.asked == ["look"]
    controller.look = LOOK.replace("24.11.5", "23.11.1")
    assert cli.main(["restore", GPU, archive, "--check"]) == FINDINGS
    assert set(controller.asked) == {"look"}


def test_only_force_takes_jobs_away(
    controller: Controller, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.look = LOOK + "jobs 2 RUNNING\n"
    assert cli.main(["restore", GPU, archive, "--yes"]) == FINDINGS
    assert "in the way: 2 jobs on the nodes now" in capsys.readouterr().out
    assert controller.asked == ["look"]
    assert cli.main(["restore", GPU, archive, "--yes", "--force"]) == OK


def test_a_newer_slurm_is_never_put_on_an_older_one(controller: Controller, archive: str) -> None:
    controller.look = LOOK.replace("24.11.5", "24.05.1")
    assert cli.main(["restore", GPU, archive, "--yes", "--force"]) == FINDINGS
    assert controller.asked == ["look"]


def test_what_does_not_start_is_said(controller: Controller, archive: str) -> None:
    controller.fails = "swap"
    assert cli.main(["restore", GPU, archive, "--yes"]) == COULD_NOT_RUN
    assert controller.asked[-2:] == ["swap", "clear"]


def test_a_damaged_archive_touches_nothing(controller: Controller, archive: str) -> None:
    path = Path(archive)
    path.write_bytes(path.read_bytes().replace(b"show state", b"SHOW state", 1))
    assert cli.main(["restore", GPU, archive, "--yes", "--force"]) == COULD_NOT_RUN
    assert cli.main(["restore", GPU, archive, "--keys"]) == COULD_NOT_RUN
    assert controller.asked == []


def test_homes_that_are_not_in_it(
    controller: Controller, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["restore", GPU, archive, "--yes", "--homes"]) == COULD_NOT_RUN
    assert "it was taken without --homes" in capsys.readouterr().err


def test_the_keys_come_first(
    controller: Controller, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = ClusterPaths(paths.BUILD / NAME).secrets
    held = {path.name: path.read_bytes() for path in secrets.iterdir()}
    for path in secrets.iterdir():
        path.unlink()
    secrets.rmdir()
    assert cli.main(["restore", GPU, archive, "--yes"]) == COULD_NOT_RUN
    assert "--keys" in capsys.readouterr().err
    assert cli.main(["restore", GPU, archive, "--keys"]) == OK
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == held
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert cli.main(["restore", GPU, archive, "--keys"]) == OK
    assert "all keys were there already" in capsys.readouterr().out
    (secrets / "ssh_key").write_text("another")
    assert cli.main(["restore", GPU, archive, "--keys"]) == COULD_NOT_RUN
    assert "there are other keys here" in capsys.readouterr().err
    assert (secrets / "ssh_key").read_text() == "another"


def test_what_the_file_says_of_backups_and_the_oldest_go(
    controller: Controller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del controller
    file, out = tmp_path / "own.yaml", tmp_path / "out"
    file.write_text(Path(GPU).read_text() + f"    backup: {{every: daily, path: {out}, keep: 2}}\n")
    out.mkdir()
    others = [
        "gpu-2026-01-01T000000.tar",
        "gpu-2026-01-02T000000.tar.gpg",
        "gpu-2-2026-01-01T000000.tar",
        "gpu-2026-01-01T000000.tar.mine",
    ]
    for other in others:
        (out / other).touch()
    assert cli.main(["backup", str(file), "--scheduled"]) == OK
    assert "gpu-2026-01-01T000000.tar is removed: the newest 2 stay" in capsys.readouterr().out
    left = {path.name for path in out.iterdir()}
    assert left > set(others[1:]) and others[0] not in left and len(left) == 4
    assert cli.main(["backup", str(file), "--scheduled", "--homes"]) == COULD_NOT_RUN
    assert cli.main(["backup", GPU, "--scheduled"]) == COULD_NOT_RUN
    assert "the cluster file has no backup" in capsys.readouterr().err
