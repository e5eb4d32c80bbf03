"""``hpcstate plan|start|stop|status|destroy|adopt``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpcstate.commands.arguments import (
    add_cluster_arguments,
    add_cluster_file,
    agreed,
    chosen_clusters,
    described,
    in_turn,
    seconds,
)
from hpcstate.errors import HpcstateError

if TYPE_CHECKING:
    from hpcstate.cluster.lifecycle import Started
    from hpcstate.model import Cluster


WATCH_SECONDS = 10
"""Between two looks of ``status --watch``: each asks libvirt, and Slurm by SSH."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands of a cluster's life."""
    plan = subparsers.add_parser(
        "plan",
        help="what would be built, created and changed; changes nothing",
        description="What `./hpc up` would do, why, and which jobs it would wait for. Changes nothing. "
        "Exit codes: 0 nothing to do, 1 something, 2 something could not be looked at.",
    )
    add_cluster_file(plan)
    plan.add_argument(
        "--json", action="store_true", help="print JSON (docs/plan.md), which `./hpc up --plan` takes"
    )
    plan.set_defaults(run=_plan)
    start = subparsers.add_parser("start", help="create what is missing and power nodes on until SSH answers")
    add_cluster_arguments(start, makes_cluster=True)
    start.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="only this node (repeatable)"
    )
    start.add_argument(
        "--autostart",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether libvirt starts these nodes when the hypervisor boots (default: as it is)",
    )
    start.add_argument(
        "--remove",
        action="store_true",
        help="also remove nodes that the file no longer has, with their disks, when their jobs have ended",
    )
    start.add_argument("--force", action="store_true", help="with --remove: do not ask")
    start.set_defaults(run=in_turn(_start))
    stop = subparsers.add_parser("stop", help="shut nodes down; nothing is lost")
    add_cluster_arguments(stop)
    stop.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="only this node (repeatable)"
    )
    jobs = stop.add_mutually_exclusive_group()
    jobs.add_argument("--drain", action="store_true", help="wait for the jobs on the nodes, then stop")
    jobs.add_argument("--force", action="store_true", help="requeue batch jobs, end the others, then stop")
    stop.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="how long --drain waits (default: 3600)",
    )
    stop.set_defaults(run=in_turn(_stop))
    status = subparsers.add_parser("status", help="what libvirt and Slurm say of every node")
    add_cluster_arguments(status)
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument(
        "--watch",
        type=seconds,
        nargs="?",
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"again and again, until Ctrl-C (every {WATCH_SECONDS} seconds)",
    )
    status.set_defaults(run=_status)
    destroy = subparsers.add_parser("destroy", help="remove what hpcstate made for the cluster, nothing else")
    add_cluster_arguments(destroy)
    destroy.add_argument("--force", action="store_true", help="do not ask")
    destroy.add_argument("--secrets", action="store_true", help="remove the keys and passwords too")
    destroy.add_argument(
        "--data",
        action="store_true",
        help="remove the data volume too: Slurm's state, the record of jobs, the registry",
    )
    destroy.add_argument("--snapshots", action="store_true", help="remove nodes that have snapshots too")
    destroy.set_defaults(run=in_turn(_destroy))
    adopt = subparsers.add_parser(
        "adopt",
        help="take over a cluster that another folder or host made",
        description="Take over a cluster that another folder or host made: from then on it is this one's.",
    )
    add_cluster_arguments(adopt, makes_cluster=True)
    keys = adopt.add_mutually_exclusive_group()
    keys.add_argument(
        "--keys", type=Path, metavar="FOLDER", help="its build/<cluster>/secrets (default: the keys here)"
    )
    keys.add_argument(
        "--lost-keys", action="store_true", help="nobody has its keys: nodes get new ones as they boot"
    )
    adopt.add_argument("--force", action="store_true", help="do not ask")
    adopt.set_defaults(run=in_turn(_adopt))


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _plan(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from hpcstate.cluster import plan, plan_look, plan_text
    from hpcstate.paths import named

    description = described(args)
    busy = plan_look.at_work(description)
    seen = plan_look.look(description, lambda text: print(f"  {text}", file=sys.stderr))
    seen = replace(seen, unknown=(*busy, *seen.unknown))
    made = plan.plan_of(description, seen)
    print(
        json.dumps(plan_text.to_dict(made), indent=1)
        if args.json
        else named(plan_text.as_text(made, diffs=args.verbose > 0), args.file)
    )
    return made.code


def _start(args: argparse.Namespace) -> int:
    from dataclasses import replace
    from functools import partial

    from hpcstate.cluster.greet import greet

    if args.force and not args.remove:
        raise HpcstateError("--force is for --remove", hint="give --remove, or leave it out")
    clusters = chosen_clusters(args)
    # A removal may wait for jobs for hours: what was greeted before says nothing then.
    with greet(() if args.remove else clusters, args.node) as greeted:
        # What takes a third of a second to import, while slow nodes answer.
        from hpcstate.cluster import lifecycle
        from hpcstate.hypervisor import fit

        demand = partial(fit.demand, replace(described(args), clusters=clusters), _say, only=args.node)
        running = len(greeted) == len(clusters)
        if not running:
            demand()
        for cluster in clusters:
            begun = time.monotonic()
            print(f"{cluster.name}:", flush=True)
            if args.remove and not _remove_nodes(cluster, args):
                return 1
            done = lifecycle.start(
                cluster,
                args.file,
                _say,
                args.node,
                autostart=args.autostart,
                greeted=greeted.get(cluster.name),
                # A node may have ended since it was greeted.
                demand=demand if running else lambda: None,
            )
            _say_started(done, args.file, time.monotonic() - begun)
    return 0


def _say_started(done: Started, file: Path, seconds: float) -> None:
    """What a start of one cluster did, and what differs still."""
    from hpcstate.hypervisor.machine import CONTRARY_WAY, contrary, contrary_line, summed

    if done.changed:
        _say(f"{', '.join(done.powered_on)}: answering on SSH after {seconds:.0f} s")
    else:
        _say(f"running already: {', '.join(done.running)}; nothing to do")
        for line in done.drains:
            _say(line)
    both = contrary(done.differences)
    for name, own in both.items():
        _say(f"{contrary_line(name, own)}; `./hpc up` refuses that: {CONTRARY_WAY}")
    rest = [each for each in done.differences if each.what not in both or each.impact != "power-cycle"]
    for line in summed(rest):
        _say(line)
    if any(difference.impact == "power-cycle" for difference in rest):
        _say(f"`./hpc up {file}` takes these nodes off and on, one by one, when their jobs have ended")


def _remove_nodes(cluster: Cluster, args: argparse.Namespace) -> bool:
    """Remove what the file no longer has, once that is agreed to. Whether the rest may go on."""
    from hpcstate.cluster import lifecycle, up
    from hpcstate.cluster.leave import awaited
    from hpcstate.hypervisor.observed import refuse_other_identity

    rows = lifecycle.different(cluster)
    refuse_other_identity(cluster, rows)
    names = [each.what for each in rows if each.impact == "remove"]
    if not names:
        _say("the file has every node that is there; nothing to remove")
        return True
    disks = "its disk" if len(names) == 1 else "their disks"
    if not args.force:
        for line in awaited(cluster, names):
            _say(line)
    if not args.force and not agreed(f"Remove {', '.join(names)}, with everything on {disks}?"):
        print("nothing removed (--force does not ask)")
        return False
    lifecycle.remove_nodes(
        cluster,
        args.file,
        _say,
        out_of_slurm=lambda going: up.out_of_slurm(cluster, args.file, going, _say),
    )
    return True


def _stop(args: argparse.Namespace) -> int:
    from hpcstate.cluster import lifecycle
    from hpcstate.cluster.leave import DRAIN_SECONDS, Jobs

    if args.timeout is not None and not args.drain:
        raise HpcstateError("--timeout is how long --drain waits", hint="give --drain, or leave it out")
    timeout_s = DRAIN_SECONDS if args.timeout is None else args.timeout
    for cluster in chosen_clusters(args):
        print(f"{cluster.name}:", flush=True)
        jobs: Jobs = "drain" if args.drain else "force" if args.force else "refuse"
        stopped = lifecycle.stop(cluster, args.file, _say, args.node, jobs=jobs, timeout_s=timeout_s)
        _say(f"stopped {', '.join(stopped)}" if stopped else "no node was running; nothing to do")
    return 0


def _status(args: argparse.Namespace) -> int:
    from hpcstate.cluster import status
    from hpcstate.paths import named
    from hpcstate.terminal import watch

    def text() -> str:
        found = [status.observe(cluster) for cluster in chosen_clusters(args)]
        return "\n\n".join(named(status.as_text(report), args.file) for report in found)

    if args.watch is not None:
        return watch(text, args.watch)
    reports = [status.observe(cluster) for cluster in chosen_clusters(args)]
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=1))
    else:
        print("\n\n".join(named(status.as_text(report), args.file) for report in reports))
    return 0 if all(report.healthy and not report.differences for report in reports) else 1


def _destroy(args: argparse.Namespace) -> int:
    from hpcstate.cluster import lifecycle
    from hpcstate.cluster.leave import ending
    from hpcstate.hypervisor.daemon import end_daemon
    from hpcstate.paths import ClusterPaths, shown

    clusters = chosen_clusters(args)
    if not args.force:
        going = False
        for cluster in clusters:
            print(f"{cluster.name}:", flush=True)
            removal = lifecycle.removal(cluster, args.file, _say, snapshots=args.snapshots, data=args.data)
            going = going or bool(removal)
            for line in removal.lines():
                _say(line)
            head = cluster.controller.name
            if any(domain.node == head and domain.state == "running" for domain in removal.domains):
                for line in ending(cluster):
                    _say(line)
        if going and not agreed("Remove this, with everything on the disks of the nodes?"):
            print("nothing removed (--force does not ask)")
            return 1
    for cluster in clusters:
        print(f"{cluster.name}:", flush=True)
        removed = lifecycle.destroy(
            cluster, args.file, _say, secrets=args.secrets, snapshots=args.snapshots, data=args.data
        )
        for what in removed:
            _say(f"removed {what}")
        if not removed:
            _say("nothing to remove")
        logs = ClusterPaths.of(cluster.name).logs
        if logs.is_dir():
            _say(f"the logs stay, of this run too: {shown(logs)}")
    end_daemon(_say, lifecycle.domains_here())
    return 0


def _adopt(args: argparse.Namespace) -> int:
    from hpcstate.cluster import adopt, lifecycle

    for cluster in chosen_clusters(args):
        print(f"{cluster.name}:", flush=True)
        with lifecycle.connected(cluster, _say) as host:
            adoption = adopt.plan(cluster, host, args.keys, lost_keys=args.lost_keys)
            if not adoption.strangers:
                _say("nothing of another owner is there; nothing to do")
                continue
            for line in adoption.lines():
                _say(line)
            if not args.force and not agreed("Take it over? The one that had it loses it."):
                print("nothing taken over (--force does not ask)")
                return 1
            adopt.adopt(cluster, args.file, host, adoption, _say)
        _say(f"next: hpcstate start {args.file}")
    return 0
