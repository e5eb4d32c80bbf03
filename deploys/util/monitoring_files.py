"""What the deploys know of what watches a cluster: its credentials, that its files were judged, and what
draws the charts of its page."""

from __future__ import annotations

from threading import Lock

from pyinfra import logger
from pyinfra.api.exceptions import DeployError

from hpcstate.errors import HpcstateError
from hpcstate.host import npm
from hpcstate.judge import watching
from hpcstate.model import Cluster
from hpcstate.monitoring import page, secrets
from hpcstate.monitoring.page import ChartLibrary
from hpcstate.monitoring.secrets import Credentials

_known: dict[str, Credentials] = {}
"""By cluster: every host asks for them."""

_charts: list[ChartLibrary | None] = []
"""What was found, once: who cannot reach the registry waits for it once."""

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


def charts(cluster: Cluster) -> ChartLibrary | None:
    """What draws the charts of the page of ``cluster``; None for a cluster without one. Where it cannot be
    fetched, that is said, and the page has no charts: jobs do not wait for it."""
    if not cluster.monitoring.page:
        return None
    with _one_at_a_time:
        if not _charts:
            try:
                package = npm.load()[page.LIBRARY]
                texts = npm.texts(package, page.FILES)
                _charts.append(page.library(f"uPlot {package.version} ({package.licence})", texts))
            except (HpcstateError, ValueError) as error:
                why = " ".join(str(error).split())
                logger.warning(f"{cluster.name}: its page has no charts until a deploy gets uPlot: {why}")
                _charts.append(None)
        return _charts[0]
