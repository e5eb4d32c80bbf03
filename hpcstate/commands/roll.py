"""``hpcstate roll start|resume|status|abort``."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from hpcstate.commands.arguments import add_cluster_file, agreed, in_turn, seconds
from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.model import Cluster


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    roll = subparsers.add_parser(
        "roll",
        help="give nodes new disks from the image of now, a few at a time",
        description="Compute nodes get new disks from the image of now, as `roll` in the cluster file says: "
        "each when its jobs have ended, and with its old disk back where the new one does not pass.",
    )
    actions = roll.add_subparsers(metavar="ACTION", required=True)
    for name, run, text in (
        ("start", _start, "replace the disks of the compute nodes whose image is another now"),
        ("resume", _start, "go on with a roll that was interrupted"),
        ("status", _status, "which nodes have which image, and which have not passed yet"),
        ("abort", _abort, "nodes that have not passed get their old disks back"),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_cluster_file(action)
        if run is _start:
            if name == "start":
                action.add_argument("--force", action="store_true", help="do not ask")
                action.add_argument(
                    "--node",
                    action="append",
                    default=[],
                    metavar="NAME",
                    help="a new disk for this node, whatever image it has (repeatable): what "
                    "somebody changed or broke on it is gone",
                )
                action.add_argument(
                    "--controller",
                    action="store_true",
                    help="replace the controller's disk, too, before the others: jobs go on meanwhile; "
                    "what lies on its data volume stays: Slurm's state, the registry, shared homes",
                )
            action.add_argument(
                "--timeout", type=seconds, metavar="SECONDS", help="how long jobs are awaited (default: 3600)"
            )
        if run is _status:
            action.add_argument("--json", action="store_true", help="for programs")
        action.set_defaults(run=run if run is _status else in_turn(run), only_resume=name == "resume")
    actions.choices["resume"].set_defaults(controller=False, node=[])


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _cluster(args: argparse.Namespace) -> Cluster:
    """The Slurm cluster of the file. Raises HpcstateError when it has none, or it was never started."""
    from hpcstate.node.ssh import demand_key
    from hpcstate.schema import load

    cluster = load(args.file).cluster("hpc")
    if cluster is None:
        raise HpcstateError("the file has no Slurm cluster", where=str(args.file))
    demand_key(cluster, args.file)
    return cluster


def _start(args: argparse.Namespace) -> int:
    from hpcstate.cluster import replace, up
    from hpcstate.cluster.leave import DRAIN_SECONDS

    cluster = _cluster(args)
    begun = time.monotonic()
    work = replace.look(cluster, controller_too=args.controller, only=args.node)
    if not work or (args.only_resume and not work.unfinished):
        replace.release_left(cluster, work)
        for line in work.left_lines(cluster):
            _say(line)
        _say(
            "every other compute node has the image of now; nothing to do"
            if not work
            else "nothing to resume"
        )
        return 0
    names = ", ".join((*work.unfinished, *work.wait))
    doors = [node.name for node in (cluster.controller, *cluster.login_nodes) if node.name in work.wait]
    goes_too = cluster.home == "local" and doors
    homes = f", users' homes on {', '.join(dict.fromkeys(doors))} too" if goes_too else ""
    if (
        not args.only_resume
        and not args.force
        and not agreed(f"New disks for {names}? What is on the old ones goes{homes}.")
    ):
        print("nothing replaced (--force does not ask)")
        return 1
    timeout_s = DRAIN_SECONDS if args.timeout is None else args.timeout
    done = replace.replace(
        cluster, args.file, work, lambda: up.deploy_now(args.file, _say), _say, timeout_s=timeout_s
    )
    _say(f"{', '.join(done)}: new disks, passed, after {time.monotonic() - begun:.0f} s")
    return 0


def _status(args: argparse.Namespace) -> int:
    from hpcstate.cluster import replace, turn

    cluster = _cluster(args)
    at_work = turn.at_work(cluster.name)
    work = replace.look(cluster)
    reservations = replace.reservations(cluster)
    if args.json:
        print(json.dumps({**work.to_dict(), "at_work": at_work, "reservations": reservations}, indent=1))
    else:
        for line in work.lines(cluster, str(args.file), at_work, reservations):
            print(line)
    return 1 if work or work.silent else 0


def _abort(args: argparse.Namespace) -> int:
    from hpcstate.cluster import replace

    names = replace.abort(_cluster(args), args.file, _say)
    if not names:
        _say("no node has a new disk that has not passed")
    return 0
