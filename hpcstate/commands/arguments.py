"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.model import Cluster

KINDS = ("hpc", "cloud", "all")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """``FILE`` and ``--cluster hpc|cloud|all``."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the cluster file")
    parser.add_argument(
        "--cluster", choices=KINDS, default="all", help="which cluster of the file (default: all)"
    )


def chosen_clusters(args: argparse.Namespace) -> tuple[Cluster, ...]:
    """The clusters that ``args`` name. Raises ProblemsError for a wrong file, HpcstateError when the file has
    no cluster of that kind.
    """
    from hpcstate.schema import load

    description = load(args.file)
    chosen = tuple(cluster for cluster in description.clusters if args.cluster in ("all", cluster.kind))
    if not chosen:
        have = ", ".join(cluster.kind for cluster in description.clusters)
        raise HpcstateError(
            f"the file has no cluster `{args.cluster}`", where=str(args.file), hint=f"it has: {have}"
        )
    return chosen
