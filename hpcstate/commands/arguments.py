"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.errors import HpcstateError
from hpcstate.terminal import agreed as agreed

if TYPE_CHECKING:
    from hpcstate.model import Cluster, Description

KINDS = ("hpc", "cloud", "all")


def add_cluster_file(parser: argparse.ArgumentParser, *, makes_cluster: bool = False) -> None:
    """``FILE``, a cluster file. What the command does is logged for the clusters in it; with
    ``makes_cluster`` also before anything of them is there.
    """
    parser.add_argument("file", metavar="FILE", type=Path, help="the cluster file")
    parser.set_defaults(cluster_names=_cluster_names, makes_cluster=makes_cluster)


def add_cluster_arguments(parser: argparse.ArgumentParser, *, makes_cluster: bool = False) -> None:
    """``FILE`` and ``--cluster hpc|cloud|all``."""
    add_cluster_file(parser, makes_cluster=makes_cluster)
    parser.add_argument(
        "--cluster", choices=KINDS, default="all", help="which cluster of the file (default: all)"
    )


def described(args: argparse.Namespace) -> Description:
    """What the cluster file of ``args`` says, parsed once as long as its text is the same: the log, the turn
    and the command itself want it. Raises ProblemsError for a wrong file.
    """
    from hpcstate.schema import parse
    from hpcstate.schema.document import read_text

    text = read_text(args.file)
    if getattr(args, "text", None) != text:
        args.description, args.text = parse(text, args.file), text
    found: Description = args.description
    return found


def chosen_clusters(args: argparse.Namespace) -> tuple[Cluster, ...]:
    """The clusters that ``args`` name. Raises ProblemsError for a wrong file, HpcstateError when the file has
    no cluster of that kind.
    """
    description = described(args)
    chosen = tuple(cluster for cluster in description.clusters if args.cluster in ("all", cluster.kind))
    if not chosen:
        have = ", ".join(cluster.kind for cluster in description.clusters)
        raise HpcstateError(
            f"the file has no cluster `{args.cluster}`", where=str(args.file), hint=f"it has: {have}"
        )
    return chosen


def refuse_bare_nodes(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Raises HpcstateError for ``words`` that stand where the nodes of ``--node`` were meant, and says which
    there are; ProblemsError for a wrong file.
    """
    known = [node.name for cluster in chosen_clusters(args) for node in cluster.nodes]
    unknown = [word for word in words if word not in known]
    if unknown:
        raise HpcstateError(
            f"no node is called {', '.join(map(repr, unknown))}",
            where=str(args.file),
            hint=f"nodes: {', '.join(known)}; --node NAME chooses one",
        )
    raise HpcstateError(
        f"a node is chosen by --node: {' '.join(f'--node {word}' for word in words)}", where=str(args.file)
    )


def _cluster_names(args: argparse.Namespace) -> list[str]:
    """The clusters that ``args`` are about; none where the file is wrong, which the command itself says."""
    try:
        found = described(args).clusters
    except HpcstateError:
        return []
    kind = getattr(args, "cluster", "all")
    return [cluster.name for cluster in found if kind in ("all", cluster.kind)]


def seconds(text: str) -> float:
    """A duration, for ``type=``. Raises ArgumentTypeError for one that is none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds are expected, like 3600, not {text!r}")
    return seconds


def in_turn(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command ``run``, which changes the clusters of its file: it is the only one that does, and waits
    for another one.
    """

    def alone(args: argparse.Namespace) -> int:
        from hpcstate.cluster.turn import turn

        with turn(
            _cluster_names(args), ["hpcstate", *sys.argv[1:]], lambda text: print(f"  {text}", flush=True)
        ):
            return run(args)

    return alone
