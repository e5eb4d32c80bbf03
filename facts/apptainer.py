"""Facts about Apptainer. hpcstate.probe.apptainer describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import apptainer


class Apptainer(ProbedFact[apptainer.Apptainer]):
    """Version, settings in force, and what an ordinary user can do with Apptainer; ``root`` is put before
    each path. The version is empty where it is absent.

    >>> host.get_fact(Apptainer)["settings"]["allow setuid"]
    ['no']
    """

    command = staticmethod(apptainer.command)
    parse = staticmethod(apptainer.parse)
