"""Facts about small files. hpcstate.probe.text_files describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import text_files
from hpcstate.probe.text_files import TextFileState


class TextFiles(ProbedFact[dict[str, TextFileState]]):
    """Mode, owner and digest of each of ``paths`` that exists, by path: one command for all of them.

    >>> host.get_fact(TextFiles, paths=("/etc/hosts",))["/etc/hosts"]["mode"]
    '644'
    """

    command = staticmethod(text_files.command)
    parse = staticmethod(text_files.parse)
