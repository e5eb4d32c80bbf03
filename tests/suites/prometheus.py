"""What Prometheus on the controller says to a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from hpcstate import programs
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed
from hpcstate.monitoring import places
from hpcstate.node.ssh import Live

ASK = Path(__file__).with_name("prometheus_ask.sh")


class Series(NamedTuple):
    """One series of an answer, with its labels and its value."""

    labels: dict[str, str]
    value: float


def ask(live: Live, query: str) -> list[Series]:
    """What Prometheus says to ``query``. Raises CheckFailed where it says nothing."""
    cluster = live.cluster
    script = programs.command(
        ASK,
        arguments=(query,),
        name=cluster.controller.name,
        at=f"{places.listen(cluster)}:{places.SERVER.port}",
        folder=places.FOLDER,
        user=places.SCRAPER,
    )
    said = live.run(cluster.controller.name, script, user="root", check=False)
    try:
        found = json.loads(said.stdout)["data"]["result"]
    except (ValueError, KeyError, TypeError):
        words = said.stderr.strip() or said.stdout.strip() or f"exit code {said.code}"
        hint = f"journalctl -u prometheus on the controller; {DEPLOY_AGAIN}"
        raise CheckFailed("an answer of Prometheus", words, hint) from None
    return [Series(each["metric"], float(each["value"][1])) for each in found]
