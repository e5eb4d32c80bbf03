"""``hpcstate ssh`` and ``ssh-config``: which node, which user, and the words of the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate import cli, paths
from hpcstate.node import login
from hpcstate.paths import ClusterPaths

GPU = str(paths.ROOT / "inventories" / "gpu.yaml")
FULL = str(paths.ROOT / "inventories" / "full-stack.yaml")


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters that were started: their keys are there."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    for name in ("gpu", "stack-hpc", "stack-cloud"):
        key = ClusterPaths.of(name).ssh_key
        key.parent.mkdir(parents=True)
        key.write_text("key")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The shells that were asked for: node, user, command, terminal. Each ends with 7."""
    shells: list[tuple[Any, ...]] = []

    def open_shell(
        cluster: Any, node: Any, user: str, command: Sequence[str], *, file: Path, tty: bool
    ) -> int:
        shells.append((node.name, user, list(command), tty))
        return 7

    monkeypatch.setattr(login, "open_shell", open_shell)
    return shells


@pytest.mark.parametrize(
    ("words", "shell"),
    [
        ([], ("controller", "admin", [], False)),
        (["compute-01"], ("compute-01", "admin", [], False)),
        (["--user", "alice"], ("controller", "alice", [], False)),
        (["-t", "--", "htop"], ("controller", "admin", ["htop"], True)),
        (["--", "ls", "-l", "--user", "x"], ("controller", "admin", ["ls", "-l", "--user", "x"], False)),
        (["compute-02", "-v", "--", "a", "--", "b"], ("compute-02", "admin", ["a", "--", "b"], False)),
        (["compute-02", "--"], ("compute-02", "admin", [], False)),
    ],
)
def test_the_command_line(words: list[str], shell: tuple[Any, ...], opened: list[tuple[Any, ...]]) -> None:
    assert cli.main(["ssh", GPU, *words]) == 7
    assert opened == [shell]


@pytest.mark.parametrize(
    ("words", "node"),
    [([], "controller"), (["--user", "admin"], "controller"), (["--user", "alice"], "login-01")],
)
def test_people_get_to_the_login_node(
    words: list[str], node: str, opened: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text(f"{Path(GPU).read_text()}    login_nodes: [{{count: 2}}]\n")
    assert cli.main(["ssh", str(file), *words]) == 7
    assert opened[0][0] == node


def test_options_may_stand_before_the_command(opened: list[tuple[Any, ...]]) -> None:
    assert cli.main(["-v", "ssh", "--user=alice", GPU, "--", "true"]) == 7
    assert opened == [("controller", "alice", ["true"], False)]


def test_a_file_with_two_clusters(opened: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["worker-01"], ["--cluster", "cloud"]):
        assert cli.main(["ssh", FULL, *words]) == 7
    assert [shell[0] for shell in opened] == ["controller", "worker-01", "control-plane"]
    assert cli.main(["ssh-config", FULL, "--cluster", "cloud"]) == 0
    hosts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Host ")]
    assert hosts[0] == "Host stack-cloud-control-plane"
    assert not [host for host in hosts if "stack-hpc" in host]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nope"], "nodes: controller, compute-01, compute-02; a command stands behind --"),
        (["compute-01", "ls"], "unrecognized arguments: ls; a command stands behind --"),
        (["--user", "a b"], "'a b' is no name of a user"),
        (["--user", "-oProxyCommand=x"], "--user"),
    ],
)
def test_what_is_wrong(
    words: list[str], says: str, opened: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ssh", GPU, *words]) == 2
    assert says in capsys.readouterr().err
    assert opened == []


def test_other_commands_take_what_is_behind_two_dashes_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inventory", "show", "--", GPU]) == 0
    assert "compute-01" in capsys.readouterr().out


def test_a_cluster_that_was_never_started_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "nothing")
    for command in ("ssh", "ssh-config"):
        assert cli.main([command, GPU]) == 2
        assert "it was never started here" in capsys.readouterr().err


def test_the_blocks_of_all_clusters_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ssh-config", GPU]) == 0
    hosts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Host ")]
    assert hosts == ["Host gpu-controller", "Host gpu-compute-01", "Host gpu-compute-02"]


def test_it_leaves_no_log(opened: list[tuple[Any, ...]]) -> None:
    cli.main(["ssh", GPU, "--", "true"])
    assert not ClusterPaths.of("gpu").logs.exists()
