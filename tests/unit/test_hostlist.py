"""Hostlist expressions: what is compressed expands to the same names in the same order."""

from __future__ import annotations

import re

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


# What `scontrol show hostnames` of Slurm 24.11.5 (Debian 13) made of each.
@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a[1-2]b[3-4]", "a1b3 a1b4 a2b3 a2b4"),
        ("r[0-1]n[0-1]x[5]", "r0n0x5 r1n0x5 r0n1x5 r1n1x5"),
        ("a[1-2]b[3-4]c[5-6]d", "a1b3c5d a1b3c6d a2b3c5d a2b3c6d a1b4c5d a1b4c6d a2b4c5d a2b4c6d"),
        ("n[1-2].x[1-2].y", "n1.x1.y n1.x2.y n2.x1.y n2.x2.y"),
        ("a[1-2]b,c", "a1b a2b c"),
        ("a[1,3-4,07-08]", "a1 a3 a4 a07 a08"),
        ("a[9-011]", "a9 a10 a11"),
        ("a[1-03]", "a1 a2 a3"),
        ("a[1-3,2]", "a1 a2 a3 a2"),
        ("a[1-]", "a1"),
        ("a[ 1-2]", "a01 a02"),
        ("a[1 -2]", "a01 a02"),
        ("a[1- 2]", "a1 a2"),
        ("a[+1]", "a01"),
        ("[1-3]", "1 2 3"),
        ("a,,b", "a b"),
        (" a , b", "a b"),
        ("a]", "a]"),
        ("a[[1]]", "a[1]"),
        ("a[1]]b", "a1]b"),
        ("a[[1-2]b[3]", "a[1b3 a[2b3"),
        ("", ""),
        (",", ""),
    ],
)
def test_slurm_has_the_same_names_in_the_same_order(expression: str, names: str) -> None:
    assert hostlist.expand(expression) == tuple(names.split())


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("a[1-2", "a bracket is not closed"),
        ("a[1-2]b[3", "a bracket is not closed"),
        ("a]1[", "a bracket is not closed"),
        ("a[3-1]", "'3-1' counts down"),
        ("a[1-2]b[3-1]", "'3-1' counts down"),
        ("a[]", "'' is no range of numbers"),
        ("a[1,]", "'' is no range of numbers"),
        ("a[a-c]", "'a-c' is no range of numbers"),
        ("a[x]b[1-2]", "'x' is no range of numbers"),
        ("n[1,2 ,3]", "'2 ' is no range of numbers"),
        ("a[-1]", "'-1' is no range of numbers"),
        ("a[1--2]", "'1--2' is no range of numbers"),
        ("a[１]", "'１' is no range of numbers"),
        ("a[0-65536]", "'0-65536' has more than 65536 numbers"),
    ],
)
def test_what_slurm_refuses_is_an_error(broken: str, why: str) -> None:
    assert hostlist.refusal(broken) == why.replace("'", '"')
    with pytest.raises(HpcstateError, match=re.escape(f"is no hostlist expression: {why}")):
        hostlist.expand(broken)


def test_a_thousand_nodes_are_one_short_expression() -> None:
    assert hostlist.compress([f"compute-{number:04}" for number in range(1, 1001)]) == "compute-[0001-1000]"


@given(st.text("nn12,--[[]]0a \n", max_size=14))
def test_what_is_refused_is_what_cannot_be_expanded(expression: str) -> None:
    why = hostlist.refusal(expression)
    try:
        hostlist.expand(expression)
    except HpcstateError:
        assert why
    else:
        assert not why
