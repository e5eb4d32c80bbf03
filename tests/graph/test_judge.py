"""The task `judge`: the daemons are asked once for the same files and the same image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.errors import Problem
from hpcstate.judge import judge
from hpcstate.judge.case import Configuration
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.tasks.configuration import _judge, _judged
from tests.unit.judge_cases import build_image


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(judge, "image_of", lambda cluster: paths.image("hpc-base"))
    build_image()
    return Path(shutil.copy(paths.ROOT / "inventories" / "gpu.yaml", tmp_path))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """What the daemons were asked; they object to ``TCPTimeout=1``."""
    found: list[Configuration] = []

    def answer(files: Configuration, image: Path) -> judge.Judgement:
        found.append(files)
        bad = "TCPTimeout=1\n" in files.files["slurm.conf"]
        problems = {"slurm.conf": (Problem(1, "TCPTimeout", "slurmctld: fatal: too short"),)} if bad else {}
        return judge.Judgement(judge.judgement_key(files, judge.image_key(image)), problems)

    monkeypatch.setattr(judge, "judge", answer)
    return found


def cluster_of(file: Path) -> Cluster:
    return schema.load(file).clusters[0]


def with_timeout(file: Path, seconds: int) -> None:
    text = file.read_text()
    assert "slurm_config:\n" in text
    parameters = f"slurm_config:\n      parameters:\n        TCPTimeout: {seconds}\n"
    file.write_text(text.replace("slurm_config:\n", parameters))


def test_the_same_files_are_judged_once(file: Path, asked: list[Configuration]) -> None:
    assert not _judged(file)
    assert _judge(file) is None
    assert _judged(file)
    assert _judge(file) is None
    assert len(asked) == 1
    files = {"slurm.conf", "cgroup.conf", "job_submit.lua", "job_container.conf", "mpi.conf"}
    assert set(asked[0].files) == files
    assert set(asked[0].gres) == {node.name for node in cluster_of(file).workers}


def test_other_files_are_judged_again(file: Path, asked: list[Configuration]) -> None:
    _judge(file)
    with_timeout(file, 77)
    assert not _judged(file)
    _judge(file)
    assert _judged(file)
    assert len(asked) == 2


def test_another_image_judges_again(file: Path, asked: list[Configuration]) -> None:
    _judge(file)
    build_image("k2")
    assert not _judged(file)
    _judge(file)
    assert len(asked) == 2


def test_what_the_daemons_refuse_fails_the_task_each_time_and_asks_them_once(
    file: Path, asked: list[Configuration]
) -> None:
    with_timeout(file, 1)
    for _ in range(2):
        failed = _judge(file)
        assert failed is not None
        assert "slurm.conf:1: error: TCPTimeout: slurmctld: fatal: too short" in str(failed.message)
        assert not _judged(file)
    assert len(asked) == 1


def test_a_judgement_that_was_cut_short_is_none(file: Path, asked: list[Configuration]) -> None:
    _judge(file)
    at = ClusterPaths.of(cluster_of(file).name).judgement
    at.write_text(at.read_text()[:40])
    assert not _judged(file)
    _judge(file)
    assert len(asked) == 2
