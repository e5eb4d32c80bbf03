"""Every operation and fact of ours: a text where a list belongs."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest
from pyinfra.api.exceptions import FactTypeError, OperationTypeError
from pyinfra.api.facts import FactBase

import facts
import operations
from facts.text_files import TextFiles
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


ANY_FACT = [
    (name, value)
    for name, value in members(facts)
    if isinstance(value, type) and issubclass(value, FactBase) and value.__name__ != "ProbedFact"
]


@pytest.mark.parametrize(("name", "fact"), ANY_FACT, ids=lambda value: str(value)[:60])
def test_a_fact_tells_arguments_that_do_not_fit(name: str, fact: Any) -> None:
    """Bound as pyinfra binds them, which shows what it cannot bind with a traceback."""
    command = fact().command
    own = inspect.signature(inspect.unwrap(command)).parameters
    assert "host" not in own
    with pytest.raises(FactTypeError, match=f"^{name}: there is no argument 'no_such'; it takes "):
        command(**inspect.getcallargs(command, no_such=1))
    for parameter in own:
        wrong = {f"{parameter}s": 1}
        with pytest.raises(FactTypeError, match="; did you mean "):
            command(**inspect.getcallargs(command, **wrong))
    if needed := [each.name for each in own.values() if each.default is each.empty]:
        with pytest.raises(FactTypeError, match=f"^{name}: {' and '.join(needed)} must be given: "):
            command()


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("pahts", ["/etc"], "there is no argument 'pahts'; did you mean paths?"),
        ("host", "x", "there is no argument 'host'; it takes paths"),
        ("paths", 5, "paths takes a list, not 5; for one: paths=[5]"),
        ("paths", [5], "paths takes a list of texts, not [5]"),
    ],
)
def test_what_is_told_of_an_argument(argument: str, value: Any, said: str) -> None:
    command = TextFiles().command
    with pytest.raises(FactTypeError) as told:
        command(**inspect.getcallargs(command, **{argument: value}))
    assert str(told.value).startswith(f"facts.text_files.TextFiles: {said}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pahts": ["/x"]}, "there is no argument 'pahts'; did you mean paths?"),
        ({}, 'paths must be given: paths=["…"]'),
        ({"paths": [5]}, "paths takes a list of texts, not [5]"),
        ({"paths": ["/x"], "nonsense": 1}, "there is no argument 'nonsense'; it takes paths"),
    ],
)
def test_an_operation_tells_arguments_that_do_not_fit(given: dict[str, object], said: str) -> None:
    with pytest.raises(OperationTypeError) as told:
        cast(Any, text_files.absent)(**given, name="called as deploys do", _sudo=True)
    assert str(told.value).startswith(f"text_files.absent: {said}")


def test_by_position_too_and_before_anything_is_done() -> None:
    with pytest.raises(OperationTypeError, match=r"text_files\.absent: paths"):
        cast(Any, text_files.absent)("/etc/x", name="called as deploys do")


def test_the_page_has_all_of_them_with_their_arguments() -> None:
    assert reference.rewritten(reference.PAGE.read_text()) == reference.PAGE.read_text(), reference.COMMAND


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(HpcstateError, match="0 places for facts"):
        reference.rewritten("nothing")
