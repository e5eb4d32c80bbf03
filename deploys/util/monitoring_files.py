"""What the deploys know of what watches a cluster: its credentials, and that its files were judged."""

from __future__ import annotations

from threading import Lock

from pyinfra import logger
from pyinfra.api.exceptions import DeployError

from hpcstate.errors import HpcstateError
from hpcstate.judge import watching
from hpcstate.model import Cluster
from hpcstate.monitoring import secrets
from hpcstate.monitoring.secrets import Credentials

_known: dict[str, Credentials] = {}
"""By cluster: every host asks for them."""

_one_at_a_time = Lock()
"""pyinfra reads the deploys for all hosts at the same time."""


def known(cluster: Cluster) -> Credentials:
    """The credentials of ``cluster``, whose files promtool and amtool have read. Raises DeployError, which
    ends the run before anything is changed."""
    with _one_at_a_time:
        if cluster.name not in _known:
            try:
                found = secrets.ensure(cluster)
                watching.require(cluster, found, logger.warning)
            except HpcstateError as error:
                raise DeployError(str(error)) from error
            _known[cluster.name] = found
        return _known[cluster.name]
