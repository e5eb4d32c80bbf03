"""What the checks of several suites look at: fixtures of the session, so that a run of checks looks once."""

from __future__ import annotations

from tests.suites.inside import inside, inside_with_gpu
from tests.suites.job_view import remains, with_gpu, without_gpu
from tests.suites.node_state import node_states
from tests.suites.refusals import answers
from tests.suites.registry_state import controllers_catalog, registries, rehashed
from tests.suites.slurm import controller_view

__all__ = [
    "answers",
    "controller_view",
    "controllers_catalog",
    "inside",
    "inside_with_gpu",
    "node_states",
    "registries",
    "rehashed",
    "remains",
    "with_gpu",
    "without_gpu",
]
