"""Hostlist expressions: what is compressed expands to the same names in the same order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstate import hostlist
from hpcstate.errors import HpcstateError


@pytest.mark.parametrize(
    ("names", "expression"),
    [
        (["compute-01"], "compute-01"),
        (["compute-01", "compute-02", "compute-03"], "compute-[01-03]"),
        (["compute-01", "compute-02", "compute-07"], "compute-[01-02,07]"),
        (["compute-09", "compute-10"], "compute-[09-10]"),
        (["n9", "n10"], "n[9-10]"),
        (["n09", "n9"], "n[09,9]"),
        (["n2", "n1"], "n[2,1]"),
        (["login", "compute-01", "compute-02"], "login,compute-[01-02]"),
        (["192.168.1.254", "192.168.1.255", "192.168.2.0"], "192.168.1.[254-255],192.168.2.0"),
        (["a", "b"], "a,b"),
    ],
)
def test_names_are_compressed(names: list[str], expression: str) -> None:
    assert hostlist.compress(names) == expression
    assert hostlist.expand(expression) == tuple(names)


@given(st.lists(st.from_regex(r"[a-z]{1,3}-?[0-9]{0,3}", fullmatch=True), max_size=30))
def test_expanding_gives_the_names_again(names: list[str]) -> None:
    assert hostlist.expand(hostlist.compress(names)) == tuple(names)


@pytest.mark.parametrize("broken", ["a[1-2", "a]1[", "a[1-b]", "a[[1]]"])
def test_a_broken_expression_is_an_error(broken: str) -> None:
    with pytest.raises(HpcstateError, match="is not a hostlist expression"):
        hostlist.expand(broken)


def test_a_thousand_nodes_are_one_short_expression() -> None:
    assert hostlist.compress([f"compute-{number:04}" for number in range(1, 1001)]) == "compute-[0001-1000]"
