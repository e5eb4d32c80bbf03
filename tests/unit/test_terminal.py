"""What a person reads: counts, tables."""

from __future__ import annotations

import io

import pytest

from hpcstate import terminal
from hpcstate.errors import HpcstateError
from hpcstate.terminal import fitted, folded, plural, table, watch

ROWS = [
    ("controller", "192.168.150.10", "running", "a reason that somebody gave, and that is longer than most"),
    ("compute-01", "192.168.150.11", "running", ""),
]
HEADER = ("NODE", "ADDRESS", "DOMAIN", "REASON")


@pytest.fixture(params=[80, 60])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The width of the terminal."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


@pytest.mark.parametrize(("number", "said"), [(0, "0 checks"), (1, "1 check"), (2, "2 checks")])
def test_counts_are_in_words(number: int, said: str) -> None:
    assert plural(number, "check") == said


def test_a_table_folds_where_the_terminal_is_narrower(columns: int) -> None:
    lines = table(HEADER, ROWS).splitlines()
    assert max(map(len, lines)) <= columns
    assert "".join(line[lines[0].index("REASON") :] for line in lines[1:-1]).replace(" ", "") == ROWS[0][
        3
    ].replace(" ", ""), "all of it, in its column"
    assert lines[-1].split() == ["compute-01", "192.168.150.11", "running"]


def test_a_table_that_fits_is_as_everywhere(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = [row[:3] for row in ROWS]
    shown = table(HEADER[:3], narrow)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    monkeypatch.delenv("COLUMNS")
    assert table(HEADER[:3], narrow) == shown
    assert len(table(HEADER, ROWS).splitlines()) == 3, "a program reads whole lines"


def test_columns_keep_a_width_to_be_read_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "10")
    lines = table(HEADER, ROWS).splitlines()
    assert max(map(len, lines)) <= 4 * terminal._COLUMN + 8


def test_what_sets_columns_is_heard_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, table(HEADER, ROWS).splitlines())) <= 60
    monkeypatch.setenv("COLUMNS", "wide")
    assert len(table(HEADER, ROWS).splitlines()) == 3


def test_many_narrow_columns_fold_between_words_and_cut_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    header = ("NODE", "ADDRESS", "DOMAIN", "SLURM", "CPUS", "MEMORY", "GPUS", "RUNS", "REASON")
    row = ("compute-01", "192.168.150.11", "running", "idle", "2", "2 GiB", "2 simulated", "1.0 or later", "")
    shown = table(header, [row])
    assert max(map(len, shown.splitlines())) <= 80
    assert "192.168.150.11" in shown and "compute-01" in shown


def test_lines_fold_behind_their_indentation(columns: int) -> None:
    lines = fitted("\nnode:\n  -> " + "step " * 30).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[:2] == ["", "node:"] and lines[2].startswith("  -> step")
    assert all(line.startswith("     step") for line in lines[3:])


def test_a_line_folds_behind_its_head(columns: int) -> None:
    lines = folded("up      " + "word " * 30, 8)
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("up      word")
    assert all(line.startswith("        word") for line in lines[1:])


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._is = terminal

    def isatty(self) -> bool:
        return self._is


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_watched_is_drawn_until_somebody_ends_it(terminal: bool) -> None:
    """What cannot be told once is said, and told the next time."""
    texts: list[str | HpcstateError] = ["two nodes\nboth up", HpcstateError("no libvirt"), "one node"]
    slept: list[float] = []

    def draw() -> str:
        found = texts[len(slept)]
        if isinstance(found, HpcstateError):
            raise found
        return found

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == len(texts):
            raise KeyboardInterrupt

    stream = _Stream(terminal)
    assert watch(draw, 5, stream, sleep) == 0
    assert slept == [5, 5, 5]
    said = stream.getvalue()
    assert said.index("both up") < said.index("no libvirt") < said.index("one node")
    assert said.count("\x1b[H") == (3 if terminal else 0)
    # Lines of the last time that were longer, or more, do not stay.
    assert not terminal or said.endswith("one node\x1b[K\n\x1b[J")
