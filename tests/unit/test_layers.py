"""Who may import whom (DESIGN.md): the way of the data has one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hpcstate.paths import ROOT

FOLDERS = ("hpcstate", "facts", "operations", "deploys", "inventories")
FILES = sorted([*(path for name in FOLDERS for path in (ROOT / name).rglob("*.py")), ROOT / "dodo.py"])


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "hpcstate.tasks" if parts[:2] == ("hpcstate", "tasks") else parts[0]


FORBIDDEN = {
    "hpcstate": {"pyinfra", "doit", "facts", "operations", "deploys"},
    "hpcstate.tasks": {"pyinfra", "facts", "operations", "deploys"},
    "facts": {"doit", "operations", "deploys"},
    "operations": {"doit", "deploys"},
    "deploys": {"doit"},
    "inventories": {"pyinfra", "doit", "facts", "operations", "deploys"},
    "dodo.py": {"pyinfra", "facts", "operations", "deploys"},
}


def imported(source: str) -> set[str]:
    """The top-level packages that a source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def reads_host_data(source: str) -> bool:
    """Whether a source has ``host.data``."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "data"
        and isinstance(node.value, ast.Name)
        and node.value.id == "host"
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_their_layer(path: Path) -> None:
    assert not imported(path.read_text()) & FORBIDDEN[layer(path)]


@pytest.mark.parametrize(
    "path", [path for path in FILES if layer(path) != "deploys"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_deploys_read_host_data(path: Path) -> None:
    assert not reads_host_data(path.read_text())


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import pyinfra.api", {"pyinfra"}),
        ("def f():\n    from doit import get_var", {"doit"}),
        ("from . import x", set()),
    ],
)
def test_the_reader_of_imports_sees_them(source: str, names: set[str]) -> None:
    assert imported(source) == names


def test_the_reader_of_host_data_sees_it() -> None:
    assert reads_host_data("x = host.data.get('node')")
    assert not reads_host_data("x = cluster.data")
