"""The files of the nodes that differ from what they are rendered to, one by one. None of them has a
secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hpcstate.cluster import rendered
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node import file_change
from hpcstate.node.file_change import FileChange
from hpcstate.node.ssh import Live
from hpcstate.probe import node_files
from hpcstate.slurm.conf import CONF_DIRECTORY

_SECONDS = 60.0


def wanted(cluster: Cluster) -> dict[str, dict[str, str]]:
    """The rendered text files of each node (rendered.files), by node and path: without secrets."""
    files: dict[str, dict[str, str]] = {node.name: {} for node in cluster.nodes}
    for name, text in rendered.files(cluster).items():
        kind, _, rest = name.partition("/")
        if kind == "nodes":
            node, _, path = rest.partition("/")
            files[node][f"/{path}"] = text
        elif kind == "slurm":
            for node in files:
                files[node][f"{CONF_DIRECTORY}/{rest}"] = text
    return files


def changes(node: str, should: Mapping[str, str], found: Mapping[str, str]) -> list[FileChange]:
    """What would be written on ``node``: the files of ``should`` that are not ``found`` so. Pure."""
    return [
        file_change.of(node, path, found.get(path), text)
        for path, text in sorted(should.items())
        if found.get(path) != text
    ]


def look(cluster: Cluster, running: Collection[str]) -> list[FileChange]:
    """What differs on the nodes that are ``running``. Raises HpcstateError when one does not answer."""
    should = {node: files for node, files in wanted(cluster).items() if node in running}
    with Live(cluster) as live:
        return look_with(live, should)


def look_with(live: Live, should: Mapping[str, Mapping[str, str]]) -> list[FileChange]:
    """The same, by an open connection, for the files that each node ``should`` have."""
    scripts = {node: node_files.command(sorted(files)) for node, files in should.items()}
    answers = live.run_each(scripts, user="root", timeout=_SECONDS)
    found: list[FileChange] = []
    for node, answer in answers.items():
        try:
            found += changes(node, should[node], node_files.parse(answer.stdout, sorted(should[node])))
        except HpcstateError as error:
            raise HpcstateError(error.message, where=node) from error
    return found
