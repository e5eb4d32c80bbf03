"""What every fact of ours does with its arguments before its command is made: pyinfra shows those that do not
fit with a traceback. operations.util.arguments uses it as well.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from pyinfra.api.exceptions import FactTypeError

from hpcstate.errors import HpcstateError

_LISTS = ("Sequence[", "Collection[", "Iterable[", "list[", "tuple[", "set[", "frozenset[")
_UNKNOWN = "host"
"""The place of names that are no argument: pyinfra leaves it out where it tells what a fact was asked with
(api/util.py, get_kwargs_str). No fact has an argument of this name."""
_MISSING = object()


def text_for_a_list(
    signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> str:
    """Which argument of a call is a text where ``signature`` has a list, and what is meant; empty where none
    is, and where the call does not fit at all, which Python tells better."""
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return ""
    for name, value in given.items():
        if not _is_list(signature.parameters[name]):
            continue
        if isinstance(value, str | bytes):
            return f"{name} takes a list, not the text {value!r}; for one: {name}=[{value!r}]"
        if isinstance(value, int | float):
            return f"{name} takes a list, not {value!r}; for one: {name}=[{value!r}]"
        texts = "[str" in str(signature.parameters[name].annotation)
        if texts and isinstance(value, list | tuple) and not all(isinstance(each, str) for each in value):
            return f"{name} takes a list of texts, not {list(value)!r}"
    return ""


def does_not_fit(signature: inspect.Signature, given: Mapping[str, object]) -> str:
    """What is wrong with the names in ``given``, arguments of a call, by its ``signature``: one that is not
    there, with the one that was meant, or one that is needed and not given. Empty where they fit."""
    known = signature.parameters
    takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            return f"there is no argument {name!r}; {f'did you mean {near[0]}?' if near else takes}"
    missing = [name for name, each in known.items() if each.default is each.empty and name not in given]
    examples = [f'{name}=["…"]' if _is_list(known[name]) else f"{name}=…" for name in missing]
    return f"{' and '.join(missing)} must be given: {' '.join(examples)}" if missing else ""


def _is_list(parameter: inspect.Parameter) -> bool:
    return str(parameter.annotation).startswith(_LISTS)


def _lenient(signature: inspect.Signature) -> inspect.Signature:
    """``signature`` for a call by any names: pyinfra binds arguments by it (api/facts.py,
    _handle_fact_kwargs), and shows what does not fit with a traceback."""
    parameters = [
        each.replace(default=_MISSING) if each.default is each.empty else each
        for each in signature.parameters.values()
    ]
    others = inspect.Parameter(_UNKNOWN, inspect.Parameter.VAR_KEYWORD)
    return signature.replace(parameters=[*parameters, others])


def refusing(
    command: Callable[..., Any], name: str, error: Callable[[type[FactTypeError], str], BaseException]
) -> Callable[..., Any]:
    """``command`` of the fact ``name``; arguments that do not fit raise what ``error`` makes of a line about
    them."""
    signature = inspect.signature(command)

    @wraps(command)
    def checked(*args: Any, **bound: Any) -> Any:
        given = {key: value for key, value in bound.items() if value is not _MISSING}
        if isinstance(given.get(_UNKNOWN), dict):
            given |= given.pop(_UNKNOWN)
        by_name = {**dict(zip(signature.parameters, args, strict=False)), **given}
        if wrong := text_for_a_list(signature, args, given) or does_not_fit(signature, by_name):
            raise error(FactTypeError, f"{name}: {wrong}")
        try:
            return command(*args, **given)
        except (AttributeError, TypeError, ValueError, HpcstateError) as refused:
            said = ", ".join(f"{key}={value!r}" for key, value in by_name.items())
            raise error(FactTypeError, f"{name}: {said}: {refused}") from refused

    # pyinfra asks getfullargspec, which looks through no wrapper.
    checked.__signature__ = _lenient(signature)  # type: ignore[attr-defined]
    return checked
