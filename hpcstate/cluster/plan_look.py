"""What a plan is made of: doit's artifacts, libvirt, Slurm, and what pyinfra would change. Changes
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Manifest, Store
from hpcstate.check.target import boots_of
from hpcstate.cluster import disks, drains, plan_files, turn
from hpcstate.cluster import pyinfra as deploy
from hpcstate.cluster.plan import (
    Artifact,
    Machines,
    Observed,
    SlurmSeen,
    changed_inputs,
)
from hpcstate.cluster.pyinfra import Operation
from hpcstate.cluster.roll import of_others
from hpcstate.container import build as container_build
from hpcstate.container import declared as container_declared
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, ProblemsError, format_problem
from hpcstate.hypervisor import fit
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import has_nothing_of
from hpcstate.hypervisor.mark import refusal
from hpcstate.hypervisor.observed import differences
from hpcstate.image import declared, packer
from hpcstate.model import Cluster, Description
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths
from hpcstate.probe import running_jobs
from hpcstate.probe.running_jobs import RunningJob
from hpcstate.probe.slurm import (
    files_command,
    nodes_command,
    parse_files,
    parse_nodes,
    parse_read,
    read_command,
)
from hpcstate.slurm.change import APPLIED
from hpcstate.slurm.conf import CONF_DIRECTORY, configuration
from hpcstate.slurm.impact import Impact, owed
from hpcstate.terminal import Say

_SECONDS = 60.0


@dataclass
class _Seen:
    """What was seen so far, and what could not be looked at."""

    artifacts: list[Artifact] = field(default_factory=list)
    machines: dict[str, Machines] = field(default_factory=dict)
    slurm: dict[str, SlurmSeen] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def look(description: Description, say: Say, *, nodes: bool = True, host: bool = True) -> Observed:
    """The world that a plan for ``description`` is made of. With ``nodes``, pyinfra is asked what it would
    change on those that run, which takes half a minute; with ``host``, whether this one can run the file.

    What cannot be looked at is in the result, and the rest is looked at all the same. Raises HpcstateError
    for a file that cannot be read.
    """
    obstacles = _obstacles(description, say) if host else ()
    seen = _Seen()
    seen.artifacts = _artifacts(description, seen.unknown)
    for cluster in description.clusters:
        try:
            seen.machines[cluster.name] = machines(cluster, description.path)
        except HpcstateError as error:
            seen.unknown.append(f"libvirt: {error}")
            continue
        if astray := _astray(seen.machines[cluster.name]):
            seen.unknown.append(
                f"nodes and Slurm of {cluster.name}: the file has other addresses of {astray}"
            )
        elif cluster.kind == "hpc":
            seen.slurm[cluster.name] = _slurm(cluster, seen.machines[cluster.name], seen.unknown)
    observed = Observed(
        file_digest(description.path),
        tuple(seen.artifacts),
        seen.machines,
        seen.slurm,
        unknown=tuple(seen.unknown),
        obstacles=obstacles,
    )
    return _with_nodes(description, observed, say) if nodes else observed


def at_work(description: Description) -> tuple[str, ...]:
    """What changes a cluster of ``description`` now, a line each: what it will have done is not known."""
    commands = {cluster.name: turn.at_work(cluster.name) for cluster in description.clusters}
    return tuple(
        f"what this leaves of {name} when it has ended: {command}"
        for name, command in commands.items()
        if command
    )


def _with_nodes(description: Description, observed: Observed, say: Say) -> Observed:
    """``observed``, and what pyinfra would change on the nodes that run; the others are new to it."""
    if len(observed.machines) < len(description.clusters):
        return observed  # libvirt said nothing: who runs is not known
    running = [name for cluster in description.clusters for name in _here(cluster, observed)]
    if not running or any(map(_astray, observed.machines.values())):
        return observed
    every = all(
        state == "running" for machines in observed.machines.values() for state in machines.states.values()
    )
    not_built = [
        name
        for name in _container_names(description)
        if not paths.container(name).is_file() or Manifest.read(paths.sidecar(paths.container(name))) is None
    ]
    try:
        before = _boots(description)
        report = deploy.plan(description, say, only=() if every else running, without=not_built)
        after = _boots(description)
    except HpcstateError as error:
        return replace(observed, unknown=(*observed.unknown, f"{deploy.FULL_STACK}: {error}"))
    # A fact of a node that goes off meanwhile is empty, and everything seems to be missing there.
    lost = [name for name in running if name not in before or before[name] != after.get(name)]
    operations = tuple(_without(each, lost) for each in report.operations)
    observed = replace(observed, operations=operations, named=report.named)
    silent = [name for name in lost if name not in before and name not in after]
    moved = [name for name in lost if name not in silent]
    if silent:
        line = (
            f"nodes: {', '.join(silent)} runs, and does not let us in by SSH: `hpcstate start FILE` tells why"
        )
        observed = replace(observed, unknown=(*observed.unknown, line))
    if moved:
        line = f"nodes: {', '.join(moved)} went off or booted while it was looked at"
        observed = replace(observed, unknown=(*observed.unknown, line))
    try:
        files = [
            each
            for cluster in description.clusters
            for each in plan_files.look(cluster, _here(cluster, observed))
        ]
    except HpcstateError as error:
        return replace(observed, unknown=(*observed.unknown, f"files: {error}"))
    # What pyinfra alone knows of (timers, mail, mounts, gres.conf) comes behind what is rendered here.
    known = {(each.node, each.path) for each in files}
    files += [each for each in report.files if (each.node, each.path) not in known]
    return replace(observed, files=tuple(files))


def _boots(description: Description) -> dict[str, str]:
    """The boots that the nodes are in, by name; none of one that does not answer."""
    found: dict[str, str] = {}
    for cluster in description.clusters:
        if ClusterPaths.of(cluster.name).ssh_key.exists():
            with Live(cluster) as live:
                live.reach()
                found |= boots_of(live)
    return found


def _without(operation: Operation, nodes: Sequence[str]) -> Operation:
    """``operation`` as if ``nodes`` had not been asked."""
    if not nodes:
        return operation
    kept = (operation.changed, operation.unchanged, operation.failed)
    return Operation(operation.name, *(tuple(name for name in names if name not in nodes) for names in kept))


def _astray(machines: Machines) -> str:
    """The nodes that run elsewhere than the file says: nobody would answer there."""
    return ", ".join(each.what for each in machines.differences if each.impact == "address")


def _here(cluster: Cluster, observed: Observed) -> list[str]:
    """The nodes of ``cluster`` that run."""
    states = observed.machines[cluster.name].states
    return [name for name, state in states.items() if state == "running"]


def _obstacles(description: Description, say: Say) -> tuple[str, ...]:
    """What `up` would stop at, before it builds anything; ``say`` is told what it would only warn of."""
    try:
        fit.demand(description, say)
    except ProblemsError as error:
        return tuple(format_problem(error.path, problem) for problem in error.problems)
    return ()


def needed_images(description: Description) -> list[str]:
    """The images of this project that the nodes of ``description`` start from, by name."""
    ours = {str(paths.image(name)): name for name in declared.names()}
    wanted = {str(paths.ROOT / node.image) for cluster in description.clusters for node in cluster.nodes}
    return [name for path, name in ours.items() if path in wanted]


def _container_names(description: Description) -> list[str]:
    """The containers that the clusters of ``description`` declare, each once."""
    return list(dict.fromkeys(name for cluster in description.clusters for name in cluster.containers.deploy))


def _artifacts(description: Description, unknown: list[str]) -> list[Artifact]:
    """The images and containers that `up` needs, as they are; ``unknown`` gets those of which nobody can
    tell."""
    store = Store.default()
    found = []
    for name in needed_images(description):
        try:
            found.append(artifact(packer.recipe(declared.load(name), store), store))
        except HpcstateError as error:
            unknown.append(f"image {name}: {error}")
    for name in _container_names(description):
        try:
            recipe = container_build.recipe(container_declared.load(name), store, lambda _: None)
            # The key of what is signed has the public key in it, which the first build makes.
            known = paths.SIGNING_KEY.is_file()
            seen = artifact(recipe, store) if known else Artifact(recipe.path.name, "missing")
            found.append(replace(seen, container=True))
        except HpcstateError as error:
            unknown.append(f"container {name}: {error}")
    return found


def artifact(recipe: Recipe, store: Store) -> Artifact:
    """What lies where ``recipe`` puts its artifact, and why it would be made anew."""
    state = recipe.state
    if state == "current":
        return Artifact(recipe.path.name, state)
    if recipe.forgotten:
        return Artifact(recipe.path.name, state, forgotten=True)
    before = Manifest.read(paths.sidecar(recipe.path))
    changed = changed_inputs(before.inputs, recipe.made_of) if before and state == "outdated" else ()
    return Artifact(recipe.path.name, state, recipe.stored(store), changed)


def machines(cluster: Cluster, file: Path) -> Machines:
    """What libvirt has of ``cluster``; where something of somebody else has its names, only that. Raises
    HpcstateError when it does not answer.
    """
    wanted = [node for node in cluster.nodes if node.auto_start]
    if has_nothing_of(cluster):
        # The libvirtd that `up` starts here knows at most what was there before.
        return Machines(False, {node.name: "absent" for node in wanted})
    with connect(cluster.uri) as host:
        if strangers := host.strangers(cluster):
            return Machines(False, {}, strangers=str(refusal(cluster, file, strangers)))
        return Machines(
            host.network(cluster) is not None,
            {node.name: host.state(cluster, node) for node in wanted},
            tuple(differences(host, cluster)),
            disks.unfinished(cluster),
        )


def _slurm(cluster: Cluster, machines: Machines, unknown: list[str]) -> SlurmSeen:
    """What changes for Slurm's daemons, and who runs jobs, as the controller has it; nothing where it is
    off or was never deployed. ``unknown`` gets what could not be found out."""
    controller = cluster.controller.name
    if (
        machines.states.get(controller, "running") != "running"
        or not ClusterPaths.of(cluster.name).ssh_key.exists()
    ):
        return SlurmSeen()
    try:
        with Live(cluster) as live:
            return slurm_of(live, unknown)
    except HpcstateError as error:
        unknown.append(f"Slurm of {cluster.name}: {error}")
        return SlurmSeen(jobs=None)


def slurm_of(live: Live, unknown: list[str]) -> SlurmSeen:
    """What the controller says. Raises HpcstateError when it does not answer; that slurmctld does not goes to
    ``unknown``."""
    controller = live.cluster.controller.name
    applied, current = (
        parse_files(live.run(controller, files_command(folder), user="root", timeout=_SECONDS).stdout)
        for folder in (APPLIED, CONF_DIRECTORY)
    )
    said = live.run(controller, read_command(CONF_DIRECTORY), user="root", timeout=_SECONDS).stdout
    read = parse_read(said)["slurmctld"]
    changes = owed(applied, current, read, configuration(live.cluster)) if applied else Impact()
    answer = live.run(controller, running_jobs.command(APPLIED), user="root", timeout=_SECONDS).stdout
    nodes = live.run(controller, nodes_command(), user="root", timeout=_SECONDS, check=False).stdout
    jobs: tuple[RunningJob, ...] | None = None
    lines: tuple[str, ...] = ()
    theirs: dict[str, str] = {}
    ours: dict[str, str] = {}
    try:
        jobs = running_jobs.parse(answer)
        known = parse_nodes(nodes)
        theirs = of_others(known)
        lines = tuple(drains.left(known, controller, ours=False).values())
        ours = {name: known[name]["reason"] for name in drains.left(known, controller, others=False)}
    except HpcstateError as error:
        unknown.append(f"Slurm of {live.cluster.name}: {error}")
    return SlurmSeen(changes, jobs, lines, theirs, ours)
