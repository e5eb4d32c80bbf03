"""Where containers lie on nodes, and what they are called: said once, and the same by the shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.categories import CATEGORIES, DEFAULT_CATEGORY
from hpcstate.model.container import NAME, REGISTRY, VERSION

FOLDERS = ("hpcstate", "facts", "operations", "deploys", "bench")
ONCE = paths.ROOT / "hpcstate" / "model" / "container.py"


def sources(suffix: str) -> Iterator[Path]:
    """The files of the product that end so."""
    return (path for folder in FOLDERS for path in sorted((paths.ROOT / folder).rglob(f"*{suffix}")))


def test_python_says_once_where_the_registry_is() -> None:
    assert [path for path in sources(".py") if re.search(rf"[\"']{REGISTRY}\b", path.read_text())] == [ONCE]


def test_programs_of_the_shell_that_are_not_told_mean_the_same_registry() -> None:
    programs = [*sources(".sh"), paths.TEMPLATES / "apptainer" / "container-exec"]
    defaults = [
        default
        for path in programs
        for default in re.findall(r"\$\{(?:top|CONTAINER_REGISTRY):-([^}]*)\}", path.read_text())
    ]
    assert (set(defaults), len(defaults)) == ({REGISTRY}, 3)


def test_what_names_no_category_has_one() -> None:
    assert DEFAULT_CATEGORY in CATEGORIES


@pytest.mark.parametrize("name", ["", "-torch", "Torch", "a/b", "..", "a" * 65])
def test_what_a_container_cannot_be_called(name: str) -> None:
    assert not NAME.fullmatch(name)
    assert NAME.fullmatch("pytorch-cuda12.1-mpi4.1")


@pytest.mark.parametrize("version", ["", "1-2", ".1", "1/2", "1" * 33])
def test_what_no_version_is(version: str) -> None:
    assert not VERSION.fullmatch(version)
    assert VERSION.fullmatch("1.0+cu121")
