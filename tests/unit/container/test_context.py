"""The key of a container: what of its folder an engine would see, and what .dockerignore leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import context
from hpcstate.model.container import Container, ContainerTest, Route


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    at = tmp_path / "demo"
    (at / "app").mkdir(parents=True)
    for name in ("container.yaml", "Dockerfile", "README.md", "app/run.sh", "app/notes.md"):
        (at / name).write_text(name)
    return at


def container(route: Route = "dockerfile", *scripts: str) -> Container:
    file = {"dockerfile": "Dockerfile", "definition": "container.def"}.get(route, "")
    tests = tuple(ContainerTest("x", ("sh",), script) for script in scripts)
    return Container("demo", "1", "", "custom-images", route, file=file, tests=tests)


def names(chosen: Container) -> set[str]:
    return {name.removeprefix("demo/") for name in context.entries(chosen)}


def edit(folder: Path) -> None:
    (folder / "README.md").write_text("other")


def mode(folder: Path) -> None:
    (folder / "app/run.sh").chmod(0o711)


def of_a_folder(folder: Path) -> None:
    (folder / "app").chmod(0o700)


def link(folder: Path) -> None:
    (folder / "app/link").symlink_to("run.sh")


def target(folder: Path) -> None:
    link(folder)
    (folder / "app/link").unlink()
    (folder / "app/link").symlink_to("/usr/bin/true")


def empty(folder: Path) -> None:
    (folder / "empty").mkdir()


@pytest.mark.parametrize("route", ["dockerfile", "definition"])
@pytest.mark.parametrize("change", [edit, mode, of_a_folder, link, target, empty])
def test_whatever_the_engine_would_copy_is_in_the_key(folder: Path, change: object, route: Route) -> None:
    assert callable(change)
    before = context.entries(container(route))
    change(folder)
    assert context.entries(container(route)) != before


@pytest.mark.parametrize("change", [edit, of_a_folder, empty])
def test_notes_are_in_no_key_where_nothing_is_copied(folder: Path, change: object) -> None:
    assert callable(change)
    before = context.entries(container("declared"))
    change(folder)
    assert context.entries(container("declared")) == before
    (folder / "app/run.sh").chmod(0o600)
    assert context.entries(container("declared")) == before
    (folder / "app/run.sh").chmod(0o755)
    assert context.entries(container("declared")) != before


def test_what_is_ignored_is_in_no_key_but_what_decides_is(folder: Path) -> None:
    (folder / ".dockerignore").write_text("*\n!app\n**/*.md\n")
    (folder / "tests").mkdir()
    (folder / "tests/try.py").touch()
    (folder / "tests/helper.py").touch()
    assert names(container()) == {"container.yaml", "Dockerfile", ".dockerignore", "app", "app/run.sh"}
    tried = names(container("dockerfile", "tests/try.py"))
    assert {"tests/try.py", "tests/helper.py"} <= tried


def test_what_one_engine_sees_is_in_the_key(folder: Path) -> None:
    (folder / ".containerignore").write_text("README.md\n")
    assert "README.md" in names(container())
    (folder / ".dockerignore").write_text("READ*\n")
    assert "README.md" not in names(container())
    (folder / "Dockerfile.dockerignore").write_text("app\n")
    assert "README.md" in names(container())


IGNORED = [
    ("*.md", "a.md", True),
    ("*.md", "x/a.md", False),
    ("**/*.md", "a.md", True),
    ("**/*.md", "x/y/a.md", True),
    ("*/temp*", "x/temporary.txt", True),
    ("*/*/temp*", "x/y/temp", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("/x", "x", True),
    ("x/", "x/y/z", True),
    ("./x/../y", "y/a", True),
    ("# x", "# x", False),
    (" # x", "# x", True),
    ("x\n!x/keep", "x/keep", False),
    ("x\n!x/keep", "x/other", True),
    ("*\n! Dockerfile", "Dockerfile", False),
    ("!x\nx", "x", True),
    ("a[b-d]e", "ace", True),
    ("a[^b]c", "abc", False),
    (r"a\*", "a*", True),
    (r"a\*", "ab", False),
    ("a.b", "axb", False),
    ("[", "[", False),
    ("x/**", "x/y/z", True),
    ("**/__pycache__", "a/b/__pycache__/c.pyc", True),
    ("\ufeffx", "x", True),
    ("x\r\ny", "x", True),
]


@pytest.mark.parametrize(("text", "name", "expected"), IGNORED)
def test_the_rules_of_dockerignore(text: str, name: str, expected: bool) -> None:
    assert context.left_out(name, context.rules(text)) is expected
