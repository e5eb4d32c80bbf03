"""What the compute nodes run against what they should: the desired side, which is read here, and Slurm's note
brought up to date without a deploy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.recipe import built as artifact_built
from hpcstate.errors import HpcstateError
from hpcstate.image.declared import image_word
from hpcstate.model import Cluster, Node
from hpcstate.node import runs
from hpcstate.node.ssh import Live
from hpcstate.probe import node_runs
from hpcstate.probe.slurm import nodes_command, parse_nodes
from hpcstate.registry.source import built
from hpcstate.terminal import Say

_SECONDS = 60.0


def desired(cluster: Cluster) -> dict[str, dict[str, str]]:
    """What each compute node of a Slurm ``cluster`` should run, by its name. An image or a container that is
    not built here is not asked for."""
    containers: dict[str, str] = {}
    for name in cluster.containers.deploy:
        try:
            containers[name] = built(name).stored.digest
        except HpcstateError:
            continue
    return {
        node.name: runs.desired(_image(node), runs.configuration_of(cluster, node), containers)
        for node in cluster.workers
    }


def _image(node: Node) -> str:
    """The word of the image that a new disk of ``node`` would be made from; empty where that is somebody
    else's, or is not there."""
    path = paths.ROOT / node.image
    manifest = artifact_built(path)
    return "" if manifest is None else image_word(Path(path).stem, manifest.key)


def note(cluster: Cluster, say: Say, *, open_live: Callable[[Cluster], Live] = Live) -> None:
    """Have Slurm note what the compute nodes run now: what came by another way than a deploy. Nodes that do
    not answer keep the note that they have, and where slurmctld is silent the next deploy does it.

    Raises HpcstateError where slurmctld refuses it.
    """
    if cluster.kind != "hpc":
        return
    with open_live(cluster) as live:
        dead = live.reach()
        controller = cluster.controller.name
        if controller in dead:
            return
        known = parse_nodes(live.run(controller, nodes_command(), user="root", timeout=_SECONDS).stdout)
        of = {node.name: runs.paths(cluster, node) for node in live.workers if node.name in known}
        scripts = {name: node_runs.command(paths) for name, paths in of.items() if name not in dead}
        answers = live.run_each(scripts, user="root", timeout=_SECONDS, check=False)
        told = {
            name: runs.running(node_runs.parse(answer.stdout), of[name]) for name, answer in answers.items()
        }
        commands = note_commands(told, {name: node["extra"] for name, node in known.items()})
        if commands:
            live.run(controller, "\n".join(("set -e", *commands)), user="root", timeout=_SECONDS)
            say(f"Slurm has noted what {len(commands)} nodes run now")


def note_commands(told: Mapping[str, runs.Runs], extras: Mapping[str, str]) -> list[str]:
    """The commands that bring Slurm's ``extras`` to what the nodes ``told`` that they run. Pure."""
    commands = []
    for name, running in told.items():
        extra = None if runs.noted(extras[name]) == running else runs.note(extras[name], running)
        if extra is not None:
            commands.append(runs.note_command(name, extra))
    return commands
