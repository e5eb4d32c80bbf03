"""A cluster file where pyinfra takes an inventory: what is said in place of a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.inventory import refuse_cluster_file


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("inventories/gpu.yaml deploys/base.py", "pyinfra inventories/gpu.py"),
        ("-y --dry inventories/gpu.yaml deploys/base.py", "pyinfra inventories/gpu.py"),
        ("--user me inventories/gpu.yaml exec -- true", "pyinfra inventories/gpu.py"),
        ("--data=a=b -vv inventories/gpu.yml", "pyinfra inventories/gpu.py"),
        ("mine.yaml deploys/base.py", "HPCSTATE_CLUSTER_FILE=mine.yaml pyinfra inventories/chosen.py"),
    ],
)
def test_a_cluster_file_is_no_inventory(words: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.ROOT)
    with pytest.raises(SystemExit) as refused:
        refuse_cluster_file(["pyinfra", *words.split()])
    assert str(refused.value).endswith(f"hint: {hint}")


@pytest.mark.parametrize(
    "words",
    [
        "inventories/gpu.py deploys/base.py",
        "@local exec -- cat a.yaml",
        "--data cluster_file=a.yaml inventories/gpu.py deploys/base.py",
        "--config c.yaml inventories/gpu.py",
        "",
    ],
)
def test_what_is_one_passes(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_cluster_file(["pyinfra", *words.split()])
