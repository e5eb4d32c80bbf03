"""``hpcstate ssh|ssh-config``."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from hpcstate.commands.arguments import add_cluster_arguments, chosen_clusters
from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.model import Cluster, Node


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``ssh`` and ``ssh-config``."""
    ssh = subparsers.add_parser(
        "ssh",
        help="a shell on a node, or a command there",
        usage="hpcstate ssh FILE [NODE] [OPTION ...] [-- COMMAND ...]",
        description="Open a shell on a node, with the host keys that it was given. What stands behind -- is "
        "run instead, as ssh does: words are joined by spaces and read by the shell there. The exit code is "
        "that of the shell or the command.",
    )
    _add_arguments(ssh)
    # Named so that what is left over is not taken for a node (cli.py).
    ssh.add_argument(
        "to",
        metavar="NODE",
        nargs="?",
        help="the node (default: the controller; for another user than admin the first login node)",
    )
    ssh.add_argument("-t", "--tty", action="store_true", help="the command gets a terminal")
    ssh.set_defaults(run=_ssh, words=())
    config = subparsers.add_parser(
        "ssh-config",
        help="the blocks for ~/.ssh/config that make `ssh gpu-controller` work",
        description="Print a Host block of ssh_config(5) for each node: CLUSTER-NODE is its name.",
    )
    _add_arguments(config)
    config.set_defaults(run=_ssh_config)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cluster_arguments(parser)
    parser.add_argument(
        "--user",
        type=_user,
        metavar="NAME",
        help="the user on the node (default: admin, whom the project's key lets in)",
    )
    # Nothing is changed, and a loop of commands would push the logs of what is out of build/<cluster>/logs.
    parser.set_defaults(cluster_names=lambda args: [])


def _user(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]*\$?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a user")
    return text


def _ssh(args: argparse.Namespace) -> int:
    from hpcstate.node.login import open_shell
    from hpcstate.node.ssh import SSH_USER, demand_key

    cluster, node = _node(args)
    demand_key(cluster, args.file)
    return open_shell(cluster, node, args.user or SSH_USER, args.words, file=args.file, tty=args.tty)


def _ssh_config(args: argparse.Namespace) -> int:
    from hpcstate.node.login import host_blocks
    from hpcstate.node.ssh import SSH_USER, demand_key

    clusters = chosen_clusters(args)
    for cluster in clusters:
        demand_key(cluster, args.file)
    print("\n".join(host_blocks(cluster, args.user or SSH_USER) for cluster in clusters), end="")
    return 0


def _node(args: argparse.Namespace) -> tuple[Cluster, Node]:
    """The node that was named, with its cluster; where none was, that of the first cluster by which the user
    gets in. Raises HpcstateError for a name that no node has, or two."""
    from hpcstate.node.ssh import SSH_USER

    clusters = chosen_clusters(args)
    if args.to is None:
        first = clusters[0]
        logins = first.login_nodes if args.user not in (None, SSH_USER) else ()
        return first, (*logins, first.controller)[0]
    found = [(cluster, node) for cluster in clusters for node in cluster.nodes if node.name == args.to]
    if not found:
        known = ", ".join(node.name for cluster in clusters for node in cluster.nodes)
        raise HpcstateError(
            f"no node is called {args.to!r}",
            where=str(args.file),
            hint=f"nodes: {known}; a command stands behind --",
        )
    if len(found) > 1:
        raise HpcstateError(
            f"two nodes are called {args.to!r}",
            where=str(args.file),
            hint="--cluster hpc or cloud says which",
        )
    return found[0]
