"""What every operation of ours does with its arguments before anything else.

A text is a sequence to Python: ``absent(paths="/etc/x")`` would remove ``/``, ``e``, ``t`` … one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, ParamSpec, cast

from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.api.exceptions import OperationTypeError
from pyinfra.api.operation import operation as pyinfras_operation

from facts.arguments import does_not_fit, text_for_a_list

P = ParamSpec("P")


def operation() -> Callable[[Callable[P, Generator[Any, None, None]]], PyinfraOperation[P]]:
    """As pyinfra's: makes an operation of a generator. A text where its signature has a list, and names that
    do not fit, are refused as it is called, with OperationTypeError, which pyinfra tells in a line."""

    def decorate(function: Callable[P, Generator[Any, None, None]]) -> PyinfraOperation[P]:
        signature = inspect.signature(function)

        @wraps(function)
        def body(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
            refuse(args, kwargs)
            return function(*args, **kwargs)

        def refuse(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # `name` and what begins with an underscore are pyinfra's (api/arguments.py).
            own = {name: value for name, value in kwargs.items() if name != "name" and name[:1] != "_"}
            by_place = dict(zip(signature.parameters, args, strict=False))
            wrong = text_for_a_list(signature, args, own) or does_not_fit(signature, {**by_place, **own})
            if wrong:
                module = function.__module__.removeprefix("operations.")
                raise OperationTypeError(f"{module}.{function.__name__}: {wrong}")

        made = pyinfras_operation()(body)

        @wraps(made)
        def called(*args: Any, **kwargs: Any) -> Any:
            refuse(args, kwargs)
            return made(*args, **kwargs)

        return cast("PyinfraOperation[P]", called)

    return decorate
