"""Which files of the project a Python file really uses: its imports, followed through the source, and the
programs that lie beside them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_files(start: Path, root: Path, packages: tuple[str, ...]) -> list[Path]:
    """``start`` and every module of ``packages`` (folders below ``root``) that it imports, directly or not,
    with the files beside each that its source names: the programs that it runs on nodes.

    Reads the source (ast), so that nothing is executed. Raises FileNotFoundError when ``start`` is missing.
    """
    found: set[Path] = set()
    programs: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        tree = ast.parse(path.read_text(), str(path))
        waiting += _modules(tree, root, packages)
        programs.update(_programs(tree, path.parent))
    return sorted(found | programs)


def _programs(tree: ast.Module, folder: Path) -> Iterator[Path]:
    """The shell programs of ``folder`` whose names are texts of the source: ``with_name("vfio_bind.sh")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".sh"):
            path = folder / node.value
            if "/" not in node.value and path.is_file():
                yield path


def _modules(tree: ast.Module, root: Path, packages: tuple[str, ...]) -> Iterator[Path]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _is_include(node):
            names = [str(node.args[0].value).removesuffix(".py").replace("/", ".")]  # type: ignore[attr-defined]
        for name in names:
            if name.split(".")[0] in packages:
                path = root.joinpath(*name.split(".")).with_suffix(".py")
                if path.is_file():
                    yield path


def _is_include(node: ast.Call) -> bool:
    """``local.include("deploys/base.py")``: pyinfra's way of running another deploy file."""
    return (
        isinstance(node.func, ast.Attribute)
        and node.func.attr == "include"
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
    )
