"""What all tests of containers start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.artifact.store import Store
from hpcstate.container import toolbox as tools_root
from hpcstate.container.toolbox import Toolbox
from tests.containers import tiny


@pytest.fixture(scope="session")
def tools() -> Toolbox:
    """Where Apptainer builds."""
    return tools_root.toolbox(Store.default())


@pytest.fixture(scope="session")
def tree(tools: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of the files of a small image."""
    return tiny.write_tree(tmp_path_factory.mktemp("image") / "tree.tar", tools)


@pytest.fixture
def workplace(tmp_path: Path, tools: Toolbox, monkeypatch: pytest.MonkeyPatch) -> tiny.Workplace:
    """A folder of containers of the test's own."""
    return tiny.Workplace(tmp_path, tools, monkeypatch)
