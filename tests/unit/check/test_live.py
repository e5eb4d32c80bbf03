"""Commands and files on nodes: with an ``ssh`` and a ``sudo`` that run everything here."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.log import logged
from hpcstate.node.shell import Shell
from hpcstate.node.ssh import (
    Live,
    TimedOutError,
    UnreachableError,
    User,
    remote_command,
    script_input,
    ssh_command,
)
from hpcstate.paths import ClusterPaths
from hpcstate.run import Result, at_once, run
from tests.suites.breaking import Edit, append, edited
from tests.unit.fake_live import TWO, a_cluster, a_node

SSH = """#!/bin/sh
echo "$@" >>"$FAKE_LOG"
case "$*" in *" -N "*"$DEAD") echo "ssh: $DEAD: no route" >&2; exit 255;; esac
case "$*" in *" -O "* | *" -N "*) exit 0;; esac
for last; do :; done
exec sh -c "$last"
"""
SUDO = """#!/bin/sh
while :; do case "$1" in -n|-H) shift;; -u) shift 2;; *) break;; esac; done
exec "$@"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the false ssh keeps its command lines."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("ssh", SSH), ("sudo", SUDO)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("DEAD", "192.168.150.99")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    key = ClusterPaths.of("test").ssh_key
    key.parent.mkdir(parents=True)
    key.write_text("key")
    return tmp_path / "log"


@pytest.fixture
def live(log: Path) -> Iterator[Live]:
    with Live(TWO) as opened:
        yield opened


def test_a_script_is_run_and_its_result_comes_back(live: Live) -> None:
    result = live.run("controller", "echo out; echo err >&2; exit 3", check=False)
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_the_connection_is_opened_once_and_closed_at_the_end(log: Path) -> None:
    with Live(TWO) as live:
        live.run("controller", "true")
        live.run("controller", "true")
    lines = log.read_text().splitlines()
    assert [" -N " in line for line in lines].count(True) == 1
    assert " -O exit " in lines[-1]


def test_connections_that_are_begun_early_are_opened_once_and_closed(log: Path) -> None:
    with Live(TWO) as live:
        live.connect_soon(["controller", "compute-01"])
        live.run("controller", "true")
    lines = log.read_text().splitlines()
    opened = [line.split()[-1] for line in lines if " -N " in line]
    closed = [line.split()[-1] for line in lines if " -O exit " in line]
    assert sorted(opened) == ["admin@192.168.150.10", "admin@192.168.150.11"]
    assert sorted(closed) == sorted(opened)


def test_a_dead_node_is_told_when_it_is_asked_not_when_it_is_begun(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAD", str(TWO.controller.address))
    live.connect_soon(["controller"])
    with pytest.raises(UnreachableError, match="does not answer on SSH"):
        live.connect("controller")


def test_scripts_share_a_shell_of_admin_and_one_of_root(live: Live, log: Path) -> None:
    for _ in range(3):
        live.run("controller", "true")
        live.run("controller", "true", user="root")
        live.run("controller", "cd /tmp; umask 077; A=b", user="hpc")
    assert live.run("controller", 'pwd; umask; echo "$A"').stdout == "/\n0022\n\n"
    shells = [line for line in log.read_text().splitlines() if line.endswith(" sh")]
    assert [line.rpartition("192.168.150.10 ")[2] for line in shells] == ["exec sh", "exec sudo -n sh"]


def test_scripts_at_the_same_time_do_not_wait_for_each_other(live: Live) -> None:
    begun = time.monotonic()
    at_once(lambda _: live.run("controller", "sleep 1"), range(4))
    assert time.monotonic() - begun < 3.5


@pytest.mark.parametrize("size", [10, 5000, 300_000])
def test_much_goes_both_ways(size: int, live: Live) -> None:
    word = "x" * size
    result = live.run("controller", f"printf %s {word}; printf %s {word} >&2")
    assert (result.stdout, result.stderr) == (word, word)


def test_a_shell_that_was_lost_is_told_and_made_anew(live: Live) -> None:
    """A node that went off and on: the connection ends in the middle of a script."""
    live.run("controller", "true", user="root")
    (shell,) = live._idle["controller", "admin"] = [Shell(["sh"])]
    with pytest.raises(UnreachableError, match="does not answer on SSH"):
        os.kill(shell._process.pid, signal.SIGSTOP)
        ender = threading.Timer(0.5, lambda: os.kill(shell._process.pid, signal.SIGKILL))
        ender.start()
        live.run("controller", "true")
    assert live._idle.get(("controller", "root"), []) == [], "the others have lost it, too"
    assert live.run("controller", "echo again").stdout == "again\n"
    (shell,) = live._idle["controller", "admin"]
    shell.close()
    assert live.run("controller", "echo again").stdout == "again\n", "one that has ended is not asked"


def test_a_sudo_that_refuses_is_told(live: Live, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sudo").write_text("#!/bin/sh\necho sudo: a password is required >&2; exit 1\n")
    with pytest.raises(HpcstateError, match=r"ended with 1:\n\s*sudo: a password is required"):
        live.run("controller", "true", user="root")


def test_a_command_cannot_eat_the_rest_of_its_script(live: Live) -> None:
    assert live.run("controller", "cat\necho after").stdout == "after\n"


def test_the_script_does_not_show_in_the_command_line(live: Live, log: Path) -> None:
    live.run("controller", "echo secret-word", user="root")
    assert "secret-word" not in log.read_text()


def test_a_failure_is_told_with_the_node(live: Live) -> None:
    with pytest.raises(HpcstateError, match="ended with 3") as raised:
        live.run("compute-01", "echo why >&2; exit 3")
    assert raised.value.where == "compute-01"
    assert "why" in raised.value.message


def test_a_script_may_end_with_255(live: Live) -> None:
    assert live.run("compute-01", "exit 255", check=False).code == 254


def test_a_script_that_hangs_is_ended(live: Live) -> None:
    with pytest.raises(TimedOutError, match="did not end within 1 s"):
        live.run("compute-01", "echo begun; sleep 30", timeout=1, check=False)


def test_a_node_that_does_not_answer_is_named(live: Live, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setenv("DEAD", "192.168.150.12")
    assert list(live.reach()) == ["compute-02"]
    tried = log.read_text().count("192.168.150.12")
    with pytest.raises(UnreachableError, match=r"192\.168\.150\.12 does not answer on SSH") as raised:
        live.run("compute-02", "true")
    assert raised.value.node == "compute-02"
    assert log.read_text().count("192.168.150.12") == tried, "it is not waited for again"
    with pytest.raises(UnreachableError):
        live.demand("compute-02")
    live.demand("compute-01")
    assert [node.name for node in live.workers] == ["compute-01", "compute-02"]


def test_a_node_that_is_not_started_by_itself_is_left_out(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAD", "192.168.150.12")
    cluster = a_cluster(a_node("compute-01", 11), a_node("compute-02", 12, auto_start=False))
    with Live(cluster) as live:
        live.reach()
        assert [node.name for node in live.workers] == ["compute-01"]


def test_each_node_gets_its_own_script(live: Live) -> None:
    results = live.run_each({"compute-01": "echo one", "compute-02": "echo two"})
    assert {name: result.stdout for name, result in results.items()} == {
        "compute-01": "one\n",
        "compute-02": "two\n",
    }
    assert live.run_each({}) == {}


@pytest.mark.parametrize(
    "content", ["", "one line\n", "no newline", "'quotes' $HOME `id` \\ %s\n", "hpcstate-end-of-file\n\n"]
)
def test_a_file_arrives_as_it_is(live: Live, tmp_path: Path, content: str) -> None:
    target = tmp_path / "it's a file"
    live.put("controller", str(target), content, mode=0o640)
    assert target.read_text() == content
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir() if "hpcstate-new" in path.name] == []


def test_an_edit_is_undone_exactly(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "slurm.conf"
    file.write_text("ClusterName=x\n")
    file.chmod(0o604)
    os.utime(file, (1, 1))
    with edited(live, [Edit("compute-02", str(file), append("# fault"))]):
        assert file.read_text() == "ClusterName=x\n# fault\n"
    assert file.read_text() == "ClusterName=x\n"
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime) == (0o604, 1)


def test_an_edit_is_undone_when_the_test_fails(live: Live, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_text("as it was\n")
    edits = [Edit("compute-01", str(first), append("x")), Edit("compute-02", str(second), append("y"))]
    with pytest.raises(ZeroDivisionError), edited(live, edits):
        raise ZeroDivisionError
    assert first.read_text() == second.read_text() == "as it was\n"


def test_what_a_killed_run_left_is_taken_up(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "gres.conf"
    file.write_text("broken\n")
    (tmp_path / "gres.conf.hpcstate-kept").write_text("sound\n")
    with edited(live, [Edit("compute-01", str(file), append("# fault"))]):
        assert file.read_text() == "sound\n# fault\n"
    assert file.read_text() == "sound\n"


def test_a_fault_without_effect_is_refused(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text\n")
    edit = Edit("compute-01", str(file), lambda text: text)
    with pytest.raises(HpcstateError, match="the fault changes nothing"), edited(live, [edit]):
        raise AssertionError("not reached")
    assert file.read_text() == "text\n"


def test_without_a_key_there_is_a_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    with pytest.raises(HpcstateError, match="no key for the nodes of cluster 'test'"), Live(TWO):
        raise AssertionError("not reached")


def test_an_unknown_node_is_told_with_the_known_ones(live: Live) -> None:
    with pytest.raises(HpcstateError, match="no node 'compute-9'") as raised:
        live.run("compute-9", "true")
    assert "compute-02" in raised.value.hint


def test_host_keys_are_never_trusted_on_sight() -> None:
    words = ssh_command(ClusterPaths.of("test"), Path("/run/x/0"))
    assert words[:3] == ["ssh", "-F", "/dev/null"]
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oIdentitiesOnly=yes"} <= set(words)
    assert "-oGlobalKnownHostsFile=/dev/null" in words


@pytest.mark.parametrize(
    ("user", "begins"),
    [("admin", "timeout -k 5 60 sh -s"), ("root", "sudo -n timeout"), ("hpc", "sudo -n -H -u hpc timeout")],
)
def test_the_account(user: User, begins: str) -> None:
    assert remote_command(user, 60).startswith(begins)


def test_a_script_is_one_compound_command() -> None:
    assert script_input("true") == "{\ncd /\ntrue\n} </dev/null\n"


def test_the_log_names_the_node_and_the_program_and_no_more(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    with logged(["x"], [file]):
        live.run("compute-01", "printf hunter2", user="root")
        live.put("compute-02", str(tmp_path / "made"), "hunter2", mode=0o600)
    said = file.read_text()
    assert "exit 0: compute-01: ssh connects\n" in said
    assert "exit 0: compute-01 (root): printf\n" in said
    assert "exit 0: compute-02 (root): replace_file.sh\n" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGHUP])
def test_what_outlives_its_terminal_runs_ssh_out_of_reach_of_it(
    number: signal.Signals | None, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an interrupt ends what runs on the nodes at once, as a person at a terminal expects."""
    apart: list[bool] = []

    def recorded(words: Sequence[str], *, own_group: bool = False, **options: Any) -> Result:
        if "-O" not in words:  # the end of the connection, with the block
            apart.append(own_group)
        return run(words, own_group=own_group, **options)

    monkeypatch.setattr("hpcstate.node.ssh.run", recorded)
    # This run of the tests may itself be one that outlives its terminal.
    wanted = dict.fromkeys((signal.SIGINT, signal.SIGHUP), signal.default_int_handler)
    before = {
        each: signal.signal(each, signal.SIG_IGN if each == number else handler)
        for each, handler in wanted.items()
    }
    try:
        live.run("controller", "true")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert apart == [number is not None], "the connection; its shells are always out of reach"


def test_an_interrupt_that_is_ignored_is_no_silent_node(log: Path) -> None:
    """A terminal's interrupt reaches the whole group, and ssh ends by it also where it was ignored."""
    code = (
        "import os, signal, sys, threading\n"
        "from hpcstate.run import run\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "threading.Timer(0.3, os.killpg, (0, signal.SIGINT)).start()\n"
        "words = ['env', '--default-signal=INT', 'sleep', '1']\n"
        "sys.exit(run(words, check=False, own_group=sys.argv[1] == 'own').code)\n"
    )
    for group, expected in (("own", 0), ("shared", 256 - 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, group], cwd=paths.ROOT, start_new_session=True, check=False
        )
        assert done.returncode == expected
