"""Facts about the registry of containers. hpcstate.probe.registry describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import registry
from hpcstate.registry import difference as registry_difference
from hpcstate.registry.difference import JudgedRegistry


class Registry(ProbedFact[JudgedRegistry]):
    """What lies in the registry, by path, with its digest, and whether it is what the node's catalog says;
    ``rehash=True`` trusts no recorded digest. Needs root.

    >>> host.get_fact(Registry)["links"]["ml-frameworks/pytorch-cpu-mpi.sif"]
    'pytorch-cpu-mpi-1.0-0123456789ab.sif'
    >>> host.get_fact(Registry, rehash=True)["out_of_step"]
    ['ml-frameworks/pytorch-cpu-mpi-1.0-0123456789ab.sif is missing']
    """

    command = staticmethod(registry.command)
    parse = staticmethod(registry_difference.judged)
