"""Definitions of the user's own: what is refused, with its line, and how their files are found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcstate import container_definition as definition
from hpcstate.errors import HpcstateError, ProblemsError

GOOD = """\
# a comment
Bootstrap: docker
From: debian@sha256:00

%arguments
    version=1
%files
    data/table.csv /opt/
    "data/with space" /opt/other
    /etc/hosts /opt/hosts
    # a comment
%post
    echo header: not one
%labels
    A b
%runscript
    exec sh "$@"
%appinstall foo
    true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/table.csv").touch()
    (tmp_path / "data/with space").touch()
    (tmp_path / "base.sif").touch()
    return tmp_path


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    found = definition.check(text.splitlines(), folder)
    return [(problem.line, problem.place, problem.message) for problem in found]


def test_a_good_one_has_no_problems_and_finds_its_files(folder: Path) -> None:
    (folder / "container.def").write_text(GOOD, encoding="utf-8")
    made = definition.checked(folder / "container.def", "/container")
    expected = GOOD.replace("data/table.csv", "/container/data/table.csv").replace(
        '"data/with space"', '"/container/data/with space"'
    )
    assert made == expected


def test_stages_and_their_files(folder: Path) -> None:
    text = (
        "Bootstrap: docker\nFrom: a\nStage: one\n%post\n  true\n\n"
        "Bootstrap: localimage\nFrom: base.sif\n%files from one\n  opt/x /opt/x\n%files\n  data/* /opt\n"
    )
    assert problems(folder, text) == []
    located = definition.located(text.splitlines(), folder, "/container")
    assert "From: a" in located and "From: /container/base.sif" in located
    assert "  opt/x /opt/x" in located and "  /container/data/* /opt" in located


@pytest.mark.parametrize(
    ("text", "line", "place", "said"),
    [
        ("", 1, "Bootstrap", "says not where to start"),
        ("%post\n true\n", 1, "Bootstrap", "says not where to start"),
        ("Bootstrap: dockr\nFrom: a\n", 1, "Bootstrap", "no bootstrap 'dockr'"),
        ("Bootstrap: docker\n%post\n true\n", 1, "From", "does not say which image"),
        ("Bootstrap: docker\nFrom:\n", 2, "From", "names no image"),
        ("Bootstrap: localimage\nFrom: other.sif\n", 2, "From", "no other.sif beside it"),
        ("Bootstrap: docker\nFrom: a\nstray words\n", 3, "header", "stray words"),
        ("Bootstrap: docker\nFrom: a\n%pst\n true\n", 3, "%pst", "no such section"),
        ("Bootstrap: docker\nFrom: a\n%setup\n rm -rf /\n", 3, "%setup", "on this machine"),
        ("Bootstrap: docker\nFrom: a\n%pre\n true\n", 3, "%pre", "on this machine"),
        ("Bootstrap: docker\nFrom: a\n%apprun\n true\n", 3, "%apprun", "of which app"),
        ("Bootstrap: docker\nFrom: a\n%files\n none.txt /x\n", 4, "%files", "no none.txt beside it"),
        ("Bootstrap: docker\nFrom: a\n%files\n ../x /x\n", 4, "%files", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%files\n 'data /x\n", 4, "%files", "quotes do not match"),
        ("Bootstrap: docker\nFrom: a\n%files\n data/with\\ space /x\n", 4, "%files", "in quotes"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    folder: Path, text: str, line: int, place: str, said: str
) -> None:
    ((found_line, found_place, message),) = problems(folder, text)
    assert (found_line, found_place) == (line, place)
    assert said in message


def test_all_problems_come_at_once_and_name_the_file(folder: Path) -> None:
    (folder / "container.def").write_text("Bootstrap: x\nFrom: a\n%nope\n", encoding="utf-8")
    with pytest.raises(ProblemsError) as raised:
        definition.checked(folder / "container.def", "/container")
    assert [problem.line for problem in raised.value.problems] == [1, 3]
    assert "container.def:3: error: %nope" in str(raised.value)


def test_a_file_that_cannot_be_read_is_a_message(folder: Path) -> None:
    with pytest.raises(HpcstateError, match="cannot be read"):
        definition.checked(folder / "container.def", "/container")


def test_what_it_starts_from_is_on_record(folder: Path) -> None:
    (folder / "base.sif").write_bytes(b"one")
    file = folder / "container.def"
    file.write_text(
        "Bootstrap: localimage\nFrom: base.sif\nStage: one\n%post\n    From: nowhere\n"
        f"Bootstrap: docker\nFrom: reg.example/a:1@sha256:{'0' * 64}\n\n"
        "Bootstrap: docker\nFrom: debian:{{ release }}\n"
    )
    assert definition.bases(file) == {
        "base:base.sif": f"sha256:{hashlib.sha256(b'one').hexdigest()}",
        "base:reg.example/a:1": f"sha256:{'0' * 64}",
        "base:debian:{{release}}": "not pinned",
    }
