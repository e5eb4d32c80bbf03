"""The cluster file: ``load`` and ``parse`` make a Description of it, or report all of its problems.

docs/cluster-file.md is the reference of the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hpcstate.errors import ProblemsError
from hpcstate.model import Cluster, Description, Metadata
from hpcstate.schema import keys, leaf
from hpcstate.schema.cluster import read_cluster
from hpcstate.schema.cross import check_clusters
from hpcstate.schema.document import failed, parse_document, read_text
from hpcstate.schema.section import NULL, Report, Section

KINDS: tuple[Literal["hpc", "cloud"], ...] = ("hpc", "cloud")


def load(path: Path) -> Description:
    """The description in the cluster file ``path``.

    Raises UnreadableFileError (a ProblemsError) when the file cannot be opened, and ProblemsError with all
    the problems of the file, each with its line, when it is no valid cluster file.
    """
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> Description:
    """The description in ``text``; ``path`` names it in messages and in the result.

    Raises ProblemsError like ``load``.
    """
    document = parse_document(text, path)
    if not isinstance(document.tree, dict):
        raise failed(
            path,
            1,
            f"expected keys at the top of the file ({', '.join(keys.FILE.used)}), found something else",
            "see inventories/minimal.yaml",
        )
    report = Report(document.lines)
    file = Section(report, ".", document.tree, keys.FILE)
    file.value("version", leaf.choice("1.0"), "1.0")
    about = file.section("metadata", keys.METADATA)
    metadata = Metadata(about.value("name", leaf.line, path.stem), about.value("description", leaf.text, ""))
    clusters = _read_clusters(file)
    check_clusters(clusters, report)
    if report.failed:
        raise ProblemsError(str(path), report.problems)
    return Description(path, metadata, clusters, tuple(report.ignored), report.problems, document.lines)


def _read_clusters(file: Section) -> tuple[Cluster, ...]:
    section = file.section("clusters", keys.CLUSTERS)
    if "clusters" not in file or file.raw("clusters") in (*NULL, {}):
        file.report.error(
            file.at("clusters"), "no cluster is described", "add clusters.hpc, clusters.cloud, or both"
        )
    found = []
    for kind in KINDS:
        if kind in section:
            cluster = read_cluster(section.section(kind, keys.HPC if kind == "hpc" else keys.CLOUD), kind)
            if cluster is not None:
                found.append(cluster)
    return tuple(found)
