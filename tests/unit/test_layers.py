"""Who may import whom (docs/architecture.md): the way of the data has one direction, and no circle.

The rooms of hpcstate/ stand on floors. A room imports from lower floors only, never from one beside it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

from hpcstate.paths import ROOT

GROUND = ""
"""The top level of hpcstate/: what knows nothing of clusters."""

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


FLOORS = (
    (GROUND,),
    ("model",),
    ("schema", "probe", "host"),
    ("artifact", "slurm", "passthrough", "monitoring"),
    ("node", "container"),
    ("image", "hypervisor", "registry", "gpu", "check"),
    ("health",),
    ("judge", "cluster", "diagnose"),
    ("commands", "tasks"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

DOORS = {"cli", "bootstrap", "inventory", "__main__"}
"""What is started or imported from outside; it lies on the ground and leads to all floors."""

SPEAKING = {"model", "schema"}
"""Rooms whose ``__init__`` says what they offer; that of others only says what the room is for."""


def modules(root: Path = ROOT / "hpcstate") -> dict[str, Path]:
    """The modules of hpcstate by their dotted names below it; a package by its own."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, known: Collection[str]) -> set[str]:
    """The modules among ``known`` that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("hpcstate.") in known else node.module for name in names]
        below = [name.removeprefix("hpcstate.") for name in names if name.startswith("hpcstate.")]
        found |= {name for name in below if name in known}
    return found


def room(module: str) -> str:
    return module.split(".")[0] if module.split(".")[0] in FLOOR_OF else GROUND


def upward(module: str, imported: Iterable[str]) -> list[str]:
    """What ``module`` must not import."""
    mine = room(module)
    return sorted(
        other for other in imported if room(other) != mine and FLOOR_OF[room(other)] >= FLOOR_OF[mine]
    )


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one twice; none is an empty list."""
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for imported_module in sorted(graph[module] - {module}):
            if found := follow(imported_module, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := follow(module, []))), [])


MODULES = modules()
GRAPH = {name: imports_of(path.read_text(), MODULES) for name, path in MODULES.items()}


def test_every_room_has_a_floor() -> None:
    folders = {path.parent.name for path in (ROOT / "hpcstate").glob("*/__init__.py")}
    assert folders == FLOOR_OF.keys() - {GROUND}


@pytest.mark.parametrize("module", [name for name in GRAPH if name not in DOORS])
def test_a_room_imports_from_lower_floors_only(module: str) -> None:
    assert upward(module, GRAPH[module]) == []


def test_there_is_no_circle() -> None:
    assert circle(GRAPH) == []


def test_a_room_says_what_it_is_for_and_imports_nothing() -> None:
    """Who imports one module of it must not pay for all of them."""
    for path in (ROOT / "hpcstate").rglob("*/__init__.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        assert path.parent.name in SPEAKING or len(tree.body) == 1, path


def test_what_runs_before_the_environment_needs_the_standard_library_only() -> None:
    """Debian's Python runs bootstrap.py, and what it imports, before anything is installed."""
    waiting, seen = ["bootstrap"], set[str]()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting += GRAPH[module] - seen
    for module in sorted(seen):
        others = imported(MODULES[module].read_text()) - {"hpcstate"} - sys.stdlib_module_names
        assert (module, others) == (module, set())


def test_one_word_is_one_thing() -> None:
    """Two classes of one name need a reader who knows where he is."""
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_the_floors_are_kept_by_something_that_sees() -> None:
    known = {"run", "slurm.conf", "cluster.up", "cluster.plan"}
    assert imports_of("from hpcstate.slurm import conf", known) == {"slurm.conf"}
    assert imports_of("def f():\n    from hpcstate.cluster.up import x", known) == {"cluster.up"}
    assert upward("slurm.conf", ["cluster.up", "run", "artifact.store"]) == ["artifact.store", "cluster.up"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b"}, "b": set()}) == []


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
