"""The rendered configurations of a cluster, to look at before anything changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcstate.tasks.cluster import cluster_file
from hpcstate.tasks.steps import action, condition


def task_render() -> dict[str, Any]:
    """render the cluster's configuration files to build/<cluster>/rendered"""
    file = cluster_file()
    return {"actions": [(_render, [file])], "uptodate": [(_rendered, [file])], "verbosity": 2}


@condition
def _rendered(file: Path) -> bool:
    from hpcstate import schema
    from hpcstate.cluster import rendered

    # With findings the task runs each time, so that they are said each time.
    return not any(
        rendered.outdated(cluster) or any(rendered.findings(cluster).values())
        for cluster in schema.load(file).clusters
    )


@action
def _render(file: Path) -> None:
    from hpcstate import schema
    from hpcstate.cluster import rendered
    from hpcstate.errors import format_problem
    from hpcstate.paths import ClusterPaths

    for cluster in schema.load(file).clusters:
        names = rendered.write(cluster)
        for file_name, problems in rendered.findings(cluster).items():
            for problem in problems:
                print(f"    {format_problem(file_name, problem)}")
        print(f"    {len(names)} files written below {ClusterPaths.of(cluster.name).rendered}")
