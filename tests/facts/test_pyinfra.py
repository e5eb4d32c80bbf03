"""Our facts through pyinfra itself, on this host: binding of arguments, defaults, errors that end the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import FactError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state

from facts.cgroup import CgroupControllers
from facts.munge import MungeKey
from facts.pci import PciDevices
from facts.slurm import SlurmFiles, SlurmJobs

AWKWARD = 'it\'s "a" $(touch pwned) — Ä'


@pytest.fixture
def host() -> Iterator[Host]:
    """pyinfra's connection to this host."""
    state = State(Inventory((["@local"], {})), Config())
    with ctx_state.use(state):
        connect_all(state)
        yield next(iter(state.inventory))


def test_a_positional_argument_and_a_name_each_reach_the_command(host: Host, tmp_path: Path) -> None:
    directory = tmp_path / AWKWARD
    directory.mkdir()
    (directory / f"{AWKWARD}.conf").write_text("a\n\nb")
    assert host.get_fact(SlurmFiles, str(directory)) == {f"{AWKWARD}.conf": "a\n\nb"}
    assert host.get_fact(SlurmFiles, directory=str(directory)) == {f"{AWKWARD}.conf": "a\n\nb"}
    assert not list(tmp_path.rglob("pwned"))


def test_silence_is_the_answer_of_a_host_that_has_none(host: Host, tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert host.get_fact(PciDevices, sysfs=nothing) == {}
    assert host.get_fact(MungeKey, path=f"{nothing}/munge.key") == {}
    assert host.get_fact(CgroupControllers, root=nothing, cgroups=nothing)["version"] == 0


def test_an_answer_that_is_not_understood_ends_the_run(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "Slurmctld(primary) at controller is DOWN"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(FactError, match="compute-99: cannot tell whether jobs hold resources"):
        host.get_fact(SlurmJobs, node="compute-99")
