"""The facts and operations with their arguments; ``python -m operations.util.reference`` writes them to
docs/pyinfra-and-doit.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from pyinfra.api.facts import FactBase

import facts
import operations
from facts.probed import ProbedFact
from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.files import rewrite_page

PAGE = paths.ROOT / "docs" / "pyinfra-and-doit.md"
COMMAND = "python -m operations.util.reference"


def members(package: ModuleType) -> Iterator[tuple[str, Any]]:
    """What the modules of ``package`` define themselves, by its dotted path, in order."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not found.ispkg:
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if getattr(value, "__module__", "") == found.name:
                    yield f"{found.name}.{name}", value


def fact_rows() -> list[str]:
    """A row for each fact."""
    return [
        _row(path, value.command, value.__doc__)
        for path, value in members(facts)
        if isinstance(value, type) and issubclass(value, FactBase) and value is not ProbedFact
    ]


def operation_rows() -> list[str]:
    """A row for each operation."""
    return [
        _row(path, value._inner, value.__doc__)
        for path, value in members(operations)
        if hasattr(value, "_inner")
    ]


def _row(path: str, call: Callable[..., Any], doc: str | None) -> str:
    # Not as pyinfra sees it: facts.probed binds arguments by a signature that takes any.
    parameters = inspect.signature(inspect.unwrap(call)).parameters.values()
    arguments = ", ".join(f"`{_argument(each)}`" for each in parameters)
    sentence = re.split(r"(?<=[.;])\s", " ".join((doc or "").split()), maxsplit=1)[0]
    return f"| `{path}` | {arguments} | {sentence.rstrip(';.').replace('``', '`')} |"


def _argument(parameter: inspect.Parameter) -> str:
    text = f"{parameter.name}: {parameter.annotation}".replace("|", "\\|")
    if parameter.default is parameter.empty:
        return text
    plain = isinstance(parameter.default, str | int | float | tuple)
    return f"{text} = {parameter.default!r}" if plain else f"{text} = …"


def rewritten(page: str) -> str:
    """``page`` with the rows between ``<!-- facts -->``, ``<!-- operations -->`` and their ``<!-- end -->``.

    Raises HpcstateError when the page has not exactly one such place of each.
    """
    for name, rows in (("facts", fact_rows()), ("operations", operation_rows())):
        table = "\n".join((f"| {name[:-1]} | arguments | |", "|---|---|---|", *rows))
        parts = re.split(rf"(?<=<!-- {name} -->).*?(?=<!-- end -->)", page, flags=re.DOTALL)
        if len(parts) != 2:
            raise HpcstateError(
                f"{len(parts) - 1} places for {name}", hint=f"<!-- {name} --> and <!-- end -->, once"
            )
        page = f"\n\n{table}\n\n".join(parts)
    return page


if __name__ == "__main__":
    sys.exit(rewrite_page(PAGE, rewritten))
