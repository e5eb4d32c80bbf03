"""Whatever stands in a cluster file: a Description, or problems with place and line; never another error."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstate import paths, schema
from hpcstate.errors import ProblemsError
from hpcstate.schema import keys

PATH = Path("fuzz.yaml")
GOOD = [
    (paths.ROOT / "inventories" / "gpu.yaml").read_text(),
    (paths.ROOT / "inventories" / "full-stack.yaml").read_text(),
    (Path(__file__).parent / "earlier" / "two-clusters.yaml").read_text(),
]
WORDS = st.sampled_from(
    [
        *sorted({key for section in keys.SECTIONS for key in section.all}),
        "",
        "null",
        "-1",
        "9" * 5000,
        "1e400",
        ".inf",
        "true",
        "[]",
        "{}",
        "[[]]",
        "{a: b}",
        "DHCP",
        "0.0.0.0/0",
        "10.0.0.0/8",
        "255.255.255.255",
        "0000:01:00.0",
        "&a",
        "*a",
        "!!int 3",
        "|",
        "'",
        '"\\ud800"',
        "\t",
        "- ",
        "192.168.150.0/30",
        "192.168.150.11",
        "10000",
        "0",
        "gpu",
        "<<: {a: b}",
        "? [a]",
        "compute-[01-02]",
    ]
)


def check(text: str) -> None:
    """Parse ``text`` and hold the result to the promise."""
    try:
        description = schema.parse(text, PATH)
    except ProblemsError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.place.startswith(".")
            assert problem.message
        str(error).encode()  # printable, whatever was in the file
    else:
        for cluster in description.clusters:
            placed = [node.address for node in cluster.nodes]
            assert len(set(placed)) == len(placed)
            assert all(address in cluster.network.subnet for address in placed)
            assert len({node.mac for node in cluster.nodes}) == len(placed)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*list(" \n:-[]{}'\"#&*!|>%@`?,.\tab01~\\"), "\n  ", ": ", "- "]), max_size=80)
)
def test_any_arrangement_of_yaml(parts: list[str]) -> None:
    check("".join(parts))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_a_good_file_with_changed_lines(good: str, data: st.DataObject) -> None:
    lines = good.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "copy", "indent", "value", "key", "insert"]))
        key, colon, _ = lines[at].partition(":")
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "copy":
            lines.insert(at, lines[data.draw(st.integers(0, len(lines) - 1))])
        elif change == "indent":
            lines[at] = " " * data.draw(st.integers(0, 8)) + lines[at].lstrip()
        elif change == "value":
            lines[at] = f"{key}{colon} {data.draw(WORDS)}"
        elif change == "key":
            lines[at] = lines[at].replace(key.strip(" -"), data.draw(WORDS), 1)
        else:
            lines.insert(at, f"{' ' * data.draw(st.integers(0, 8))}{data.draw(WORDS)}: {data.draw(WORDS)}")
    check("\n".join(lines))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_a_good_file_with_changed_characters(good: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 30))
    check(good[:at] + data.draw(st.text(max_size=10)) + good[at + length :])
