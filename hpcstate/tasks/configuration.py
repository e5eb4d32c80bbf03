"""The configurations of a cluster: rendered to be looked at, and judged by Slurm's own daemons, before
anything is started or pushed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcstate.tasks.cluster import cluster_file
from hpcstate.tasks.graph import action, condition
from hpcstate.terminal import plural, stage


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
        print(f"    {plural(len(names), 'file')} written below {ClusterPaths.of(cluster.name).rendered}")


def task_judge() -> dict[str, Any]:
    """let slurmctld and slurmd of the image read the rendered configuration, in a throwaway root"""
    file = cluster_file()
    return {
        "actions": [(_judge, [file])],
        "uptodate": [(_judged, [file])],
        "calc_dep": ["images_of_cluster"],
        "task_dep": ["render"],
        "verbosity": 2,
    }


@condition
def _judged(file: Path) -> bool:
    from hpcstate import schema
    from hpcstate.judge import judge

    # With problems the task runs each time, so that they are said each time.
    judgements = [judge.known(cluster) for cluster in schema.load(file).clusters if cluster.kind == "hpc"]
    return all(judgement is not None and not judgement.problems for judgement in judgements)


@action
def _judge(file: Path) -> None:
    from hpcstate import schema
    from hpcstate.judge import judge

    with stage("judge", "slurmctld and slurmd of the image read the configuration"):
        for cluster in schema.load(file).clusters:
            if cluster.kind == "hpc":
                judge.require(cluster, lambda text: print(f"    {text}"))
