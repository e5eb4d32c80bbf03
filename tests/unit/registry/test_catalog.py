"""catalog.yaml: what is written is read back, and what is no catalog is refused with its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstate.categories import CATEGORIES
from hpcstate.errors import HpcstateError
from hpcstate.registry import catalog
from hpcstate.registry.layout import Catalog, Stored

WHEN = "2026-11-22T07:06:52+00:00"


def stored(
    name: str = "mpi-minimal", version: str = "1.0", digest: str = "a", nodes: tuple[str, ...] = ()
) -> Stored:
    """A version; ``digest`` is its first digits."""
    return Stored(name, "base-images", version, digest.ljust(64, "0"), 300, True, WHEN, nodes)


def catalog_of(*versions: Stored) -> Catalog:
    found = Catalog()
    for version in versions:
        found = found.with_current(version)
    return found


@pytest.mark.parametrize(
    "versions",
    [
        (),
        (stored(),),
        (stored(), stored(version="1.1", digest="b"), stored("b", nodes=("compute-01", "controller"))),
        (stored(version="1.0"), stored(version="yes", digest="0"), stored(version="1e3", digest="2")),
    ],
)
def test_what_is_written_is_read_back(versions: tuple[Stored, ...]) -> None:
    found = catalog_of(*versions)
    assert catalog.parse(catalog.write(found)) == found


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            Stored,
            name=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,12}", fullmatch=True),
            category=st.sampled_from(CATEGORIES),
            version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+]{0,5}", fullmatch=True),
            digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            size=st.integers(1, 1 << 40),
            signed=st.booleans(),
            deployed=st.just(WHEN),
        ),
        max_size=6,
    )
)
def test_any_catalog_is_read_back(versions: list[Stored]) -> None:
    found = catalog_of(*versions)
    assert catalog.parse(catalog.write(found)) == found


def test_no_text_is_an_empty_catalog() -> None:
    assert catalog.parse("") == catalog.parse(" \n") == Catalog()


GOOD = catalog.write(catalog_of(stored()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("schema: 1", "schema: 2"), "the format 2"),
        (GOOD.replace("size: 300", "size: many"), r"yaml:\d+: "),
        (GOOD.replace("file: base-images", "file: mine"), r"yaml:\d+: "),
        (
            GOOD.replace('version: "1.0', 'version: "1.1'),
            "must be base-images/mpi-minimal-1.1-a00000000000.sif",
        ),
        (GOOD.replace("current: base-images/m", "current: base-images/n"), "none of its versions"),
        (GOOD.replace(WHEN, "yesterday"), "no time: yesterday"),
        (GOOD + GOOD[GOOD.index("    - file") :], "listed twice"),
        (GOOD.replace("      signed: yes\n", ""), "signed"),
        (GOOD + "more: 1\n", "more"),
        ("- a\n", r"yaml:\d+: "),
        ("<<<<<<< HEAD\n", "found arbitrary text"),
        ("a: {\n", r"yaml:\d+: "),
    ],
)
def test_what_is_no_catalog_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(HpcstateError, match=message) as caught:
        catalog.parse(text, "compute-01:/opt/containers/.registry/catalog.yaml")
    assert caught.value.where.startswith("compute-01")


@pytest.mark.parametrize("word", ["digest: ", "version: ", "current: ", "- file: ", "- compute-01"])
def test_a_line_break_at_the_end_of_a_value_is_refused(word: str) -> None:
    lines = catalog.write(catalog_of(stored(nodes=("compute-01",)))).splitlines()
    at = next(number for number, line in enumerate(lines) if line.lstrip().startswith(word))
    lead = lines[at].index("- ") + 2 if word == "- compute-01" else lines[at].index(": ") + 2
    value = lines[at][lead:].strip('"')
    lines[at] = f'{lines[at][:lead]}"{value}\\n"'
    with pytest.raises(HpcstateError):
        catalog.parse("\n".join(lines))


@pytest.mark.parametrize(
    "file", ["../../etc/x.sif", "base-images/../x.sif", "/etc/x.sif", "base-images/a/b.sif"]
)
def test_a_file_elsewhere_is_refused(file: str) -> None:
    text = catalog.write(catalog_of(stored()))
    with pytest.raises(HpcstateError):
        catalog.parse(text.replace(stored().file, file))


def test_a_catalog_without_end_is_refused_at_once() -> None:
    with pytest.raises(HpcstateError, match="characters"):
        catalog.parse(catalog.write(catalog_of(stored())) + "# x\n" * (1 << 19))


@pytest.mark.parametrize("item", ["      - compute-01\n", "    - 1\n", "      -  x\n", "      -\n"])
def test_a_list_without_end_is_refused_at_once(item: str) -> None:
    """10 000 nodes, 80 kB, took 150 s: strictyaml copies a list anew for each of its items."""
    text = catalog.write(catalog_of(stored(nodes=("compute-01",))))
    with pytest.raises(HpcstateError, match=r"\d+ versions and nodes of versions"):
        catalog.parse(text + item * 10_000)


def test_no_catalog_is_written_that_is_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_MOST_ITEMS", 5)
    full = catalog_of(stored(nodes=("a", "b", "c")), stored(version="1.1", digest="b"))
    assert catalog.parse(catalog.write(full)) == full
    with pytest.raises(HpcstateError, match="would have 6") as caught:
        catalog.write(full.with_current(stored("b")))
    assert "container prune" in caught.value.hint
