"""Facts about the registry of containers. hpcstate.probe.registry describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import registry
from hpcstate.probe.registry import RegistryState


class Registry(ProbedFact[RegistryState]):
    """What lies in the registry, by path, with its digest; ``rehash=True`` trusts no recorded one. Needs
    root. Whether that is what the catalog says, `hpcstate container catalog` tells.

    >>> host.get_fact(Registry)["links"]["ml-frameworks/pytorch-cpu-mpi.sif"]
    'pytorch-cpu-mpi-1.0-0123456789ab.sif'
    """

    command = staticmethod(registry.command)
    parse = staticmethod(registry.parse)
