"""Which code makes something: what is followed, what is not, and what counts as another."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact import imports
from hpcstate.artifact.imports import LEFT_OUT, code_of, digests, imported_files
from hpcstate.errors import HpcstateError

FILES = {
    "p/__init__.py": '"""P."""\n',
    "p/start.py": """\
        from __future__ import annotations
        import os
        from typing import TYPE_CHECKING
        from p.offers import Thing
        from p import plain
        from q import stranger
        if TYPE_CHECKING:
            from p.types import Kind
        PROGRAM = ("python", "-m", "p.program")
        SCRIPT, TABLE = "run.sh", "table.toml"
        def late():
            from p import lazy_texts
            from p.offers.lazy import x
            import p.whole
    """,
    "p/offers/__init__.py": "from p.offers.thing import Thing\n",
    "p/offers/thing.py": "Thing = 1\n",
    "p/offers/other.py": "",
    "p/offers/lazy.py": "from p.start import late\nx = 1\n",
    "p/plain.py": "from p.says import word\n",
    "p/says.py": "from p.behind import word\n",
    "p/behind.py": "word = 1\n",
    "p/types.py": "",
    "p/whole.py": "",
    "p/program.py": '"""Not p.offers.other, which a docstring names."""\n"p.offers.other"\n',
    "p/run.sh": "echo\n",
    "p/table.toml": "",
    "p/lazy_texts.py": f"LONG, ODD, NUL = {'a.' * 300!r}, '..', 'x\\0.sh'\n",
    "p/unread.toml": "",
    "q/stranger.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("".join(line.removeprefix(" " * 8) for line in text.splitlines(True)))
    return tmp_path


def found(root: Path, *left_out: str) -> set[str]:
    files = imported_files([root / "p/start.py"], root, ("p",), left_out)
    return {file.relative_to(root).as_posix().removeprefix("p/") for file in files}


FOLLOWED = {"start.py", "offers/__init__.py", "offers/thing.py", "offers/lazy.py", "plain.py", "says.py"}
FOLLOWED |= {"behind.py", "whole.py", "program.py", "run.sh", "table.toml", "lazy_texts.py"}


def test_imports_programs_and_tables_are_followed(root: Path) -> None:
    assert found(root) == FOLLOWED


def test_what_is_left_out_is_not_gone_through(root: Path) -> None:
    assert found(root, "p.says") == FOLLOWED - {"says.py", "behind.py"}
    assert found(root, "p.offers") == FOLLOWED - {"offers/__init__.py", "offers/thing.py", "offers/lazy.py"}


def test_a_deploy_that_includes_another(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/one.py").write_text('local.include("d/two.py")\n')
    (tmp_path / "d/two.py").write_text("")
    assert len(imported_files([tmp_path / "d/one.py"], tmp_path, ("d",))) == 2


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("x = 1  # one\n", True),
        ('"""A module."""\n\n\nx = (\n    1\n)\n"""What x is."""\n', True),
        ("x = 2\n", False),
        ("x = True\n", False),
        ("x = '1'\n", False),
        ("y = 1\n", False),
        ("x = 1\nprint()\n", False),
    ],
)
def test_code_is_what_it_does(tmp_path: Path, other: str, same: bool) -> None:
    file = tmp_path / "one.py"
    seen = []
    for text in ("x = 1\n", other):
        file.write_text(text)
        imports._read.cache_clear()
        seen.append(digests([file], tmp_path))
    assert (seen[0] == seen[1]) == same


@pytest.mark.parametrize("content", [b"def (:\n", b"x = '\xff'\n", b"x = 1\0\n"])
def test_a_file_that_is_no_python_is_a_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.py").write_bytes(content)
    with pytest.raises(HpcstateError, match=r"one\.py: this is no Python"):
        imported_files([tmp_path / "one.py"], tmp_path, ("p",))


def test_what_is_left_out_exists_and_has_a_reason() -> None:
    for name, reason in LEFT_OUT.items():
        at = paths.ROOT.joinpath(*name.split("."))
        assert at.is_dir() or at.with_suffix(".py").is_file(), name
        assert reason


def test_the_model_is_followed_by_what_it_offers() -> None:
    """`from hpcstate.model import Cluster`, as the judge has it."""
    code = code_of("hpcstate.judge.judge")
    assert {"hpcstate/model/__init__.py", "hpcstate/model/cluster.py"} <= code.keys()
    assert {"hpcstate/judge/inside.py", "hpcstate/slurm/keys.toml"} <= code.keys()
