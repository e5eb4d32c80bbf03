"""What a run leaves in its log, and what it never does."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate import cli, paths, programs, schema
from hpcstate.errors import HpcstateError
from hpcstate.log import KEPT, LOG, files_of, logged, new_file
from hpcstate.paths import ClusterPaths
from hpcstate.run import run

GPU = paths.ROOT / "inventories" / "gpu.yaml"


@pytest.fixture(autouse=True)
def _build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")


def read(file: Path) -> str:
    return file.read_text()


def test_what_was_asked_said_and_run_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.log"
    with logged(["hpcstate", "start", "my file.yaml"], [file]):
        print("compute-01: ", end="")
        print("answers")
        print("a warning", file=sys.stderr)
        run(["true"])
        LOG.info("looked")
    text = read(file)
    assert "hpcstate start 'my file.yaml'" in text
    assert "| compute-01: answers" in text and "| a warning" in text
    assert "exit 0: true" in text
    assert "INFO looked" in text
    assert file.stat().st_mode & 0o777 == 0o600
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("compute-01: answers\n", "a warning\n")
    assert not LOG.handlers


def test_what_travels_by_standard_input_is_in_no_log(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    with logged(["x"], [file]):
        run(["cat"], stdin="hunter2")
    assert "exit 0: cat" in read(file) and "hunter2" not in read(file)


def test_a_surprise_leaves_its_traceback_and_a_message_does_not(tmp_path: Path) -> None:
    for error, traceback in ((RuntimeError("odd"), True), (HpcstateError("no such node"), False)):
        file = tmp_path / f"{type(error).__name__}.log"
        with pytest.raises(type(error)), logged(["x"], [file]):
            raise error
        assert str(error) in read(file)
        assert ("Traceback" in read(file)) is traceback


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (HpcstateError("no such node"), "ended: no such node"),
        (KeyboardInterrupt(), "ended: interrupted"),
        (SystemExit(2), "ended with exit code 2"),
    ],
)
def test_an_end_is_told_without_names_of_the_program(error: BaseException, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    with pytest.raises(type(error)), logged(["x"], [file]):
        raise error
    assert read(file).splitlines()[-1].endswith(f"DEBUG {said}")


def test_the_oldest_logs_go(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        (tmp_path / f"2026-01-01T0000{number:02}.000000-status.log").touch()
    new_file(tmp_path, "status").touch()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == KEPT
    assert "2026-01-01T000000.000000-status.log" not in left


def test_a_cluster_that_was_never_started_gets_no_folder_by_being_looked_at() -> None:
    assert files_of(["gpu"], "status", make=False) == []
    assert not ClusterPaths.of("gpu").root.exists()
    (made,) = files_of(["gpu"], "start", make=True)
    assert made.parent == ClusterPaths.of("gpu").logs


def test_a_command_about_a_cluster_leaves_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = schema.load(GPU).clusters[0]
    ClusterPaths.of(cluster.name).root.mkdir(parents=True)
    assert cli.main(["inventory", "show", str(GPU), "--log-file", str(tmp_path / "mine.log")]) == cli.OK
    (file,) = ClusterPaths.of(cluster.name).logs.iterdir()
    assert file.name.endswith("-inventory-show.log")
    assert read(file).splitlines()[0].endswith(f"--log-file {tmp_path / 'mine.log'}")
    assert "compute-01" in read(file) and read(file).count("\n") == read(tmp_path / "mine.log").count("\n")


@pytest.mark.parametrize(("options", "shown"), [([], False), (["-v"], False), (["-vv"], True)])
@pytest.mark.parametrize("at", [0, 1, 3], ids=["before", "within", "behind"])
def test_verbose(
    options: list[str],
    shown: bool,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("hpcstate.commands.inventory.show", lambda _: run(["true"]).code)
    words = ["inventory", "show", str(GPU)]
    assert cli.main([*words[:at], *options, *words[at:]]) == cli.OK
    assert ("exit 0: true" in capsys.readouterr().err) is shown


def test_a_log_that_cannot_be_written_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inventory", "show", str(GPU), "--log-file", str(tmp_path / "no" / "x")]) == 2
    assert "no/x" in capsys.readouterr().err


@pytest.mark.parametrize("full", ["from the beginning", "later"])
def test_a_full_disk_is_one_note_and_the_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], full: str
) -> None:
    """/dev/full answers each write with ENOSPC (full(4))."""
    file, mine = tmp_path / "run.log", tmp_path / "mine.log"
    if full == "from the beginning":
        file.symlink_to("/dev/full")
    with logged(["hpcstate", "status"], [file], asked_for=[mine]):
        print("compute-01")
        if full == "later":
            (handler,) = (each for each in LOG.handlers if getattr(each, "baseFilename", "") == str(file))
            assert isinstance(handler, logging.FileHandler)
            full_one = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 (the handler closes it)
            before = handler.setStream(full_one)
            assert before is not None
            before.close()
        for _ in range(100):
            print("a warning", file=sys.stderr)
        LOG.warning("looked")
    captured = capsys.readouterr()
    assert captured.out == "compute-01\n"
    notes = [line for line in captured.err.splitlines() if "no log in" in line]
    assert notes == [f"hpcstate: no log in {file}: No space left on device; the command goes on without it"]
    assert captured.err.count("a warning\n") == 100 and "Traceback" not in captured.err
    assert "compute-01" in read(mine) and "looked" in read(mine), "the other log goes on"
    assert not LOG.handlers


def test_the_command_line_goes_on_where_its_folder_of_logs_cannot_be_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = ClusterPaths.of("gpu")
    at.root.mkdir(parents=True)
    at.logs.write_text("no folder")
    assert cli.main(["inventory", "show", str(GPU)]) == cli.OK
    captured = capsys.readouterr()
    assert "compute-01" in captured.out
    assert captured.err.count("\n") == 1 and f"no log in {at.logs}: " in captured.err


def test_a_folder_that_takes_no_log_is_a_note_for_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ClusterPaths.of("gpu")
    at.logs.mkdir(parents=True)
    monkeypatch.setattr("hpcstate.log.os.access", lambda *_: False)
    (mine,) = files_of(["gpu"], "status", make=False)

    def refused(_self: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(mine))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", refused)
        with logged(["x"], [mine]):
            print("done")
    assert f"no log in {mine}: Read-only file system" in capsys.readouterr().err
    monkeypatch.setattr("hpcstate.log.os.geteuid", lambda: at.logs.stat().st_uid + 1)
    assert files_of(["gpu"], "status", make=False) == []
    assert len(files_of(["gpu"], "start", make=True)) == 1
    assert capsys.readouterr().err == ""


def test_the_rest_of_a_process_is_logged(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from hpcstate import log; import sys\n"
        "log.begin(['doit', 'up'], [Path(sys.argv[1])]); log.LOG.info('went on')\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "up.log"], check=True, cwd=paths.ROOT)
    assert "doit up" in read(tmp_path / "up.log") and "went on" in read(tmp_path / "up.log")


def test_a_program_is_called_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    program = programs.replace_file(str(tmp_path / "made"), "600")
    with logged(["x"], [file]):
        run(["sh", "-c", program], stdin="hunter2")
        run(["sh", "-c", "# look\nset -e\ntrue hunter2\n"])
    assert "exit 0: sh -c replace_file.sh\n" in read(file)
    assert "exit 0: sh -c true\n" in read(file) and "hunter2" not in read(file)


@pytest.mark.parametrize(
    ("script", "called"),
    [
        ("scontrol show node compute-01", "scontrol"),
        ("set -e\nmunge --no-input", "munge"),
        ("KEY=hunter2 true", "sh"),
        ("", "sh"),
    ],
)
def test_what_a_script_is_called(script: str, called: str) -> None:
    assert programs.names(script) == called
