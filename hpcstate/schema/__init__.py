"""The cluster file: ``load`` and ``parse`` make a Description of it, or report all of its problems.

hpcstate.schema.keys has all keys; docs/cluster-file.md is the reference for users.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hpcstate.errors import ProblemsError
from hpcstate.model import Cluster, Description, Metadata
from hpcstate.schema.cluster import read_cluster
from hpcstate.schema.cross import check_clusters
from hpcstate.schema.declare import SectionKey
from hpcstate.schema.document import failed, parse_document, read_text
from hpcstate.schema.keys import ClustersKeys, FileKeys, MetadataKeys
from hpcstate.schema.section import NULL, Report, Section

KINDS: dict[Literal["hpc", "cloud"], SectionKey] = {"hpc": ClustersKeys.hpc, "cloud": ClustersKeys.cloud}


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
            f"expected keys at the top of the file ({', '.join(FileKeys.used)}), found something else",
            "see inventories/minimal.yaml",
        )
    if not any(key in FileKeys.used for key in document.tree):
        # Its lines are somebody else's, and may be secret: none is shown.
        raise failed(
            path,
            1,
            f"this is no cluster file: it has none of the keys {', '.join(FileKeys.used)}",
            "see inventories/minimal.yaml",
        )
    report = Report(document.lines)
    file = Section(report, ".", document.tree, FileKeys)
    file.value(FileKeys.version)
    about = file.section(FileKeys.metadata)
    metadata = Metadata(about.value(MetadataKeys.name) or path.stem, about.value(MetadataKeys.description))
    clusters = _read_clusters(file, path.parent)
    check_clusters(clusters, report)
    if report.failed:
        raise ProblemsError(str(path), report.problems)
    return Description(path, metadata, clusters, tuple(report.ignored), report.problems, document.lines)


def _read_clusters(file: Section, folder: Path) -> tuple[Cluster, ...]:
    section = file.section(FileKeys.clusters)
    if file.raw(FileKeys.clusters) in (*NULL, {}):
        file.missing(FileKeys.clusters)
    found = []
    for kind, key in KINDS.items():
        if key in section:
            cluster = read_cluster(section.section(key), kind, folder)
            if cluster is not None:
                found.append(cluster)
    return tuple(found)
