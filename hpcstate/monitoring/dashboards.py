"""Grafana's dashboards as code. ``python -m hpcstate.monitoring.dashboards`` writes the files of
templates/monitoring/dashboards.

A deploy reads the files that are written here and needs no SDK (hpcstate.monitoring.panels). Grafana 11 and
12 read this kind of document (schema v1).

Queries have Grafana's variables: ``$node``, ``$jobid``, ``$__rate_interval``. They ask for our own rules
(templates/monitoring/jobs.yml.j2, gpus.yml.j2) where there are some.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from hpcstate.monitoring.boards_of_jobs import job, overview, slurm
from hpcstate.monitoring.boards_of_machines import gpu, nodes, storage
from hpcstate.paths import TEMPLATES

FOLDER = TEMPLATES / "monitoring" / "dashboards"

BOARDS: dict[str, Callable[[], dashboard.Dashboard]] = {
    "overview": overview,
    "nodes": nodes,
    "slurm": slurm,
    "gpu": gpu,
    "job": job,
    "storage": storage,
}


def text(name: str) -> str:
    """The JSON of the dashboard ``name``: a line for each panel, so that a change is seen."""
    document = json.loads(JSONEncoder(sort_keys=True).encode(BOARDS[name]().build()))
    panels = document.pop("panels")
    head = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False)
    body = ",\n".join("  " + json.dumps(panel, sort_keys=True, ensure_ascii=False) for panel in panels)
    return f'{head[:-2]},\n "panels": [\n{body}\n ]\n}}\n'


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
