"""Every operation and fact of ours: a text where a list belongs."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest
from pyinfra.api.exceptions import FactTypeError, OperationTypeError
from pyinfra.api.facts import FactBase

import facts
import operations
from hpcstate.errors import HpcstateError
from operations import text_files
from operations.util import reference
from operations.util.reference import members


def lists(function: Any) -> list[str]:
    """The parameters of ``function`` that are sequences."""
    parameters = inspect.signature(function).parameters.values()
    return [
        each.name for each in parameters if str(each.annotation).startswith(("Sequence", "list", "tuple"))
    ]


OPERATIONS = [
    (name, value._inner, parameter)
    for name, value in members(operations)
    if hasattr(value, "_inner")
    for parameter in lists(value._inner)
]
FACTS = [
    (name, value().command, parameter)
    for name, value in members(facts)
    if isinstance(value, type) and issubclass(value, FactBase) and value.__name__ != "ProbedFact"
    for parameter in lists(value().command)
]


def test_there_are_some() -> None:
    assert len(OPERATIONS) > 10
    assert len(FACTS) > 3


@pytest.mark.parametrize(("name", "call", "parameter"), OPERATIONS, ids=lambda value: str(value)[:60])
def test_an_operation_refuses_a_text(name: str, call: Any, parameter: str) -> None:
    with pytest.raises(OperationTypeError, match=f"{parameter} takes a list, not the text 'abc'"):
        call(**{parameter: "abc"})


@pytest.mark.parametrize(("name", "call", "parameter"), FACTS, ids=lambda value: str(value)[:60])
def test_a_fact_refuses_a_text(name: str, call: Any, parameter: str) -> None:
    with pytest.raises(FactTypeError, match=f"{parameter} takes a list, not the text 'abc'"):
        call(**{parameter: "abc"})


def test_by_position_too_and_before_anything_is_done() -> None:
    with pytest.raises(OperationTypeError, match=r"text_files\.absent: paths"):
        cast(Any, text_files.absent)("/etc/x", name="called as deploys do")


def test_the_page_has_all_of_them_with_their_arguments() -> None:
    assert reference.rewritten(reference.PAGE.read_text()) == reference.PAGE.read_text(), reference.COMMAND


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(HpcstateError, match="0 places for facts"):
        reference.rewritten("nothing")
