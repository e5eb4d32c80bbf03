"""How long a container takes to all nodes: each way of `hpcstate container deploy`, and what is done by hand.

    .venv/bin/python bench/container_deploy.py FILE CONTAINER.sif [--oras-url URL] [--json]

FILE describes a running cluster that was deployed; CONTAINER.sif has a signature when the file asks for one
(300 MB is a usual size). By hand means: rsync over SSH from here to one node after the other, and sbcast from
the controller within an allocation; neither verifies anything. Ours verify digest and signature on each node,
and include the way from here to the controller, which is also given by itself. Each figure stands as a ratio
to the loop of rsync, which is what can be compared between machines. The container is removed from the nodes
at the end, unless the registry had it before; a node that is not in step before is a reason to stop.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from hpcstate import schema
from hpcstate.check.target import slurm_cluster
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.registry import layout as registry
from hpcstate.registry import scripts
from hpcstate.registry.catalog import write
from hpcstate.registry.deploy import deploy
from hpcstate.registry.look import out_of_step
from hpcstate.registry.source import LocalFile, of_file
from hpcstate.registry.spread import sbcast_script
from hpcstate.registry.transfer import Via, Way
from hpcstate.run import run

_HAND = f"{registry.INCOMING}/by-hand.sif"


@dataclass
class Figures:
    """Seconds. ``deploy_s`` by way, from here to all nodes; ``spread_s`` the same from the controller on;
    ``verify_s`` is the digest and the signature of the file on one node."""

    size_mb: float
    nodes: int
    rsync_loop_s: float = 0.0
    sbcast_alone_s: float = 0.0
    verify_s: float = 0.0
    upload_s: float = 0.0
    spread_s: dict[str, float] = field(default_factory=dict)
    deploy_s: dict[str, float] = field(default_factory=dict)
    again_s: float = 0.0


def timed(what: str, act: Callable[[], object]) -> float:
    """How long ``act`` takes; told on standard error."""
    began = time.monotonic()
    act()
    seconds = time.monotonic() - began
    print(f"{what}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def say(node: str, text: str) -> None:
    print(f"    {node}: {text}", file=sys.stderr, flush=True)


def send(cluster: Cluster, source: LocalFile, way: Way, *nodes: str) -> None:
    """Deploy, and stop the benchmark when a node has not got it."""
    result = deploy(cluster, [source], say, way=way, nodes=nodes)
    if not result.complete:
        raise SystemExit(f"nothing measured: {[node.message for node in result.nodes if node.message]}")


def forget(live: Live, source: LocalFile, *, everywhere: bool) -> None:
    """Take the container off the nodes, and off the controller too with ``everywhere``."""
    controller = live.cluster.controller.name
    names = [node.name for node in live.nodes if everywhere or node.name != controller]
    live.run_each(dict.fromkeys(names, scripts.remove([source.stored.file])), user="root")


def by_rsync(live: Live, source: LocalFile) -> None:
    """From here to one node after the other, as a shell loop does it."""
    for node in live.workers:
        shell, target = live.transport(node.name)
        words = ["rsync", "--whole-file", "--rsync-path=sudo -n rsync", "-e", shell, "--"]
        run([*words, source.path, f"{target}:{_HAND}"], timeout=3600)


def by_sbcast(live: Live, source: LocalFile) -> None:
    """sbcast from the controller, which has the container."""
    script = sbcast_script(source.stored, [node.name for node in live.workers], "")
    live.run(live.cluster.controller.name, script, user="root", timeout=3600)


def verify_script(source: LocalFile) -> str:
    """The digest and, where there is one, the signature of the file in place."""
    file = f"{registry.ROOT}/{shlex.quote(source.stored.file)}"
    return f"sha256sum <{file} >/dev/null\n{scripts.verify([source.stored], require_signature=True)}"


def measure(cluster: Cluster, source: LocalFile, ways: list[Way]) -> Figures:
    """Everything, one after the other, in one run."""
    figures = Figures(round(source.stored.size / 1e6, 1), len(cluster.nodes))
    with Live(cluster) as live:
        catalog, findings = out_of_step(live)
        if any(findings.values()):
            raise SystemExit(f"the registry is not in step before the benchmark: {findings}")
        before = catalog
        had = any(stored.file == source.stored.file for stored in catalog.stored)
        workers = [node.name for node in live.workers]
        tidy = dict.fromkeys(workers, f"rm -f {_HAND} {scripts.incoming(source.stored)}")
        try:
            forget(live, source, everywhere=True)
            figures.rsync_loop_s = timed("rsync in a loop", lambda: by_rsync(live, source))
            live.run_each(tidy, user="root")
            controller = cluster.controller.name
            figures.upload_s = timed("to the controller", lambda: send(cluster, source, Way(), controller))
            figures.sbcast_alone_s = timed("sbcast alone", lambda: by_sbcast(live, source))
            live.run_each(tidy, user="root")
            for way in ways:
                forget(live, source, everywhere=False)
                name: Via = way.via
                seconds = timed(f"from the controller by {name}", partial(send, cluster, source, way))
                figures.spread_s[name] = seconds
                figures.deploy_s[name] = figures.upload_s + seconds
            figures.again_s = timed("again, nothing to do", lambda: send(cluster, source, Way()))
            figures.verify_s = timed(
                "digest and signature",
                lambda: live.run(workers[0], verify_script(source), user="root", timeout=900),
            )
        finally:
            if not had:
                forget(live, source, everywhere=True)
                link = f"rm -f {registry.ROOT}/{source.stored.link}\n{scripts.write_catalog(write(before))}"
                live.run_each(dict.fromkeys((node.name for node in live.nodes), link), user="root")
    return figures


def as_text(figures: Figures) -> str:
    """The table, with the ratio of each figure to the loop of rsync."""
    rows = [
        ("rsync in a loop, by hand", figures.rsync_loop_s),
        ("sbcast alone, by hand", figures.sbcast_alone_s),
    ]
    rows += [("to the controller", figures.upload_s)]
    rows += [(f"from the controller: {name}", seconds) for name, seconds in figures.spread_s.items()]
    rows += [(f"deploy: {name}", seconds) for name, seconds in figures.deploy_s.items()]
    rows += [("again, nothing to do", figures.again_s), ("digest and signature, one node", figures.verify_s)]
    lines = [f"{name:<34}{seconds:8.1f} s  {seconds / figures.rsync_loop_s:6.2f}" for name, seconds in rows]
    return "\n".join([f"{figures.size_mb} MB to {figures.nodes} nodes", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("container", metavar="CONTAINER.sif", type=Path)
    parser.add_argument("--oras-url", default="", help="also measure this OCI registry, reached without TLS")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ways = [Way("rsync"), Way("sbcast")]
    if args.oras_url:
        ways.append(Way("oras", oras_url=args.oras_url, plain_http=True))
    cluster = slurm_cluster(schema.load(args.file))
    figures = measure(cluster, of_file(args.container, name="bench"), ways)
    print(json.dumps(asdict(figures), indent=1) if args.json else as_text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
