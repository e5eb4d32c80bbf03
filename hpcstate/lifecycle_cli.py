"""``hpcstate start|stop|status|destroy``."""

from __future__ import annotations

import argparse
import json
import time

from hpcstate.cli_arguments import add_cluster_arguments, chosen_clusters


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands of a cluster's life."""
    start = subparsers.add_parser("start", help="create what is missing and power nodes on until SSH answers")
    add_cluster_arguments(start)
    start.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="only this node (repeatable)"
    )
    start.set_defaults(run=_start)
    stop = subparsers.add_parser("stop", help="shut nodes down; nothing is lost")
    add_cluster_arguments(stop)
    stop.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="only this node (repeatable)"
    )
    stop.set_defaults(run=_stop)
    status = subparsers.add_parser("status", help="what libvirt and Slurm say of every node")
    add_cluster_arguments(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)
    destroy = subparsers.add_parser("destroy", help="remove what hpcstate made for the cluster, nothing else")
    add_cluster_arguments(destroy)
    destroy.add_argument("--force", action="store_true", help="do not ask")
    destroy.add_argument("--secrets", action="store_true", help="remove the keys and passwords too")
    destroy.set_defaults(run=_destroy)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _start(args: argparse.Namespace) -> int:
    from hpcstate import lifecycle

    for cluster in chosen_clusters(args):
        begun = time.monotonic()
        print(f"{cluster.name}:", flush=True)
        done = lifecycle.start(cluster, _say, args.node)
        if done.changed:
            _say(f"{len(done.powered_on)} nodes answer on SSH after {time.monotonic() - begun:.0f} s")
        else:
            _say(f"all {len(done.running)} nodes run already; nothing to do")
    return 0


def _stop(args: argparse.Namespace) -> int:
    from hpcstate import lifecycle

    for cluster in chosen_clusters(args):
        print(f"{cluster.name}:", flush=True)
        stopped = lifecycle.stop(cluster, _say, args.node)
        _say(f"stopped {', '.join(stopped)}" if stopped else "no node was running; nothing to do")
    return 0


def _status(args: argparse.Namespace) -> int:
    from hpcstate import status

    reports = [status.observe(cluster) for cluster in chosen_clusters(args)]
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=1))
    else:
        print("\n\n".join(status.as_text(report) for report in reports))
    return 0 if all(report.healthy for report in reports) else 1


def _destroy(args: argparse.Namespace) -> int:
    from hpcstate import lifecycle
    from hpcstate.libvirt_daemon import end_daemon

    clusters = chosen_clusters(args)
    if not args.force:
        names = ", ".join(cluster.name for cluster in clusters)
        try:
            answer = input(f"Remove the nodes of {names} with everything on their disks? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing removed (--force does not ask)")
            return 1
    for cluster in clusters:
        print(f"{cluster.name}:", flush=True)
        removed = lifecycle.destroy(cluster, _say, secrets=args.secrets)
        for what in removed:
            _say(f"removed {what}")
        if not removed:
            _say("nothing was there")
    end_daemon(_say, lifecycle.running_here())
    return 0
