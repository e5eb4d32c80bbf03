"""What a run of pyinfra would deliver: all that is declared, but for what a plan leaves out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import ContainerSettings
from hpcstate.registry.delivery import WITHOUT, Delivery
from tests.unit.fake_live import TWO


def test_a_plan_leaves_out_what_is_not_built_and_a_deploy_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    cluster = replace(TWO, containers=ContainerSettings(deploy=("mpi-minimal",)))
    monkeypatch.setenv(WITHOUT, "mpi-minimal,other")
    assert Delivery(cluster).wanted == ()
    for others in ("", "other"):
        monkeypatch.setenv(WITHOUT, others)
        with pytest.raises(HpcstateError, match="has not been built"):
            Delivery(cluster)
