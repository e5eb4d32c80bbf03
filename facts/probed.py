"""The base of our facts: one command, one pure parser."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import pyinfra
from pyinfra.api.exceptions import FactError
from pyinfra.api.facts import FactBase

from facts.arguments import refusing
from hpcstate.errors import HpcstateError

T = TypeVar("T")


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
        cls.command = staticmethod(refusing(plain.__func__, f"{cls.__module__}.{cls.__name__}", _error))

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
