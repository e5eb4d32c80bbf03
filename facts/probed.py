"""The base of our facts: one command, one pure parser."""

from __future__ import annotations

from typing import TypeVar

from pyinfra.api.exceptions import FactError
from pyinfra.api.facts import FactBase

from hpcstate.errors import HpcstateError

T = TypeVar("T")


class ProbedFact(FactBase[T]):
    """A fact whose command and parser are functions of hpcstate.probe, which the command line uses as well.

    Its default, which pyinfra hands out when a command prints nothing, is what the parser makes of no text.
    """

    abstract = True

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
            raise FactError(str(error)) from error
