"""The base of our facts: one command, one pure parser."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import pyinfra
from pyinfra.api.exceptions import FactError, FactTypeError
from pyinfra.api.facts import FactBase

from hpcstate.errors import HpcstateError

T = TypeVar("T")


_LISTS = ("Sequence[", "Collection[", "Iterable[", "list[", "tuple[", "set[", "frozenset[")
_UNKNOWN = "_unknown"
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


class ProbedFact(FactBase[T]):
    """A fact whose command and parser are functions of hpcstate.probe, which the command line uses as well.

    Its default, which pyinfra hands out when a command prints nothing, is what the parser makes of no text.
    """

    abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tells arguments that do not fit the command in a line: names, and a text where it takes a list, as
        operations of ours do."""
        super().__init_subclass__(**kwargs)
        plain = cls.__dict__.get("command")
        if not isinstance(plain, staticmethod):
            return
        command = plain.__func__
        signature = inspect.signature(command)
        name = f"{cls.__module__}.{cls.__name__}"

        @wraps(command)
        def checked(*args: Any, **bound: Any) -> Any:
            given = {key: value for key, value in bound.items() if value is not _MISSING}
            given |= given.pop(_UNKNOWN, {})
            by_place = dict(zip(signature.parameters, args, strict=False))
            wrong = text_for_a_list(signature, args, given) or does_not_fit(signature, {**by_place, **given})
            if wrong:
                raise _error(FactTypeError, f"{name}: {wrong}")
            try:
                return command(*args, **given)
            except (AttributeError, TypeError, ValueError, HpcstateError) as error:
                said = ", ".join(f"{key}={value!r}" for key, value in {**by_place, **given}.items())
                raise _error(FactTypeError, f"{name}: {said}: {error}") from error

        # pyinfra asks getfullargspec, which looks through no wrapper.
        checked.__signature__ = _lenient(signature)  # type: ignore[attr-defined]
        cls.command = staticmethod(checked)

    @staticmethod
    def parse(text: str) -> T:
        """What the command's output says. Raises HpcstateError when it cannot be understood."""
        raise NotImplementedError

    def default(self) -> T:  # type: ignore[override]  # pyinfra calls it on an instance, where parse is known
        """The answer of a host that has none of it."""
        return self.parse("")

    def process(self, output: list[str]) -> T:
        """The parsed output.

        Raises FactError, which ends the run, when the output cannot be understood. Not FactProcessError:
        pyinfra 3.10 (api/facts.py, _get_fact) turns that one into the default and lets the operation that
        asked go on, and then an answer cut short would look like an empty cluster.
        """
        try:
            return self.parse("\n".join(output))
        except HpcstateError as error:
            raise _error(FactError, str(error)) from error


def _error(kind: type[FactError], text: str) -> BaseException:
    """What ends a run with ``text``. `pyinfra … fact` tells no error of a fact: gevent shows a traceback, and
    the program ends with 0 (3.10, cli.py, _run_fact_operations). SystemExit passes."""
    return SystemExit(text) if pyinfra.is_cli and "fact" in sys.argv[1:] else kind(text)
