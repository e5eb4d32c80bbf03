"""What `up` would do: doit would build, libvirt would create, pyinfra would change. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.store import Store
from hpcstate.cluster import pyinfra as deploy
from hpcstate.errors import HpcstateError, ProblemsError, format_problem
from hpcstate.hypervisor import fit
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import SYSTEM_URI, answers
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.hypervisor.mark import refusal
from hpcstate.hypervisor.observed import differences
from hpcstate.image import declared, packer
from hpcstate.model import Cluster, Description


@dataclass(frozen=True)
class Plan:
    """The steps of each stage, in words; ``nodes`` is empty where nothing would change on a running node.

    ``machines`` are what libvirt has otherwise than the file says, and what it takes to change that.

    ``named`` is what a deploy would leave as it is (docs/drift.md): nothing that would be done.

    ``obstacles`` are what stands in the way on this host; ``unknown`` says what could not be looked at.
    """

    images: tuple[str, ...]
    libvirt: tuple[str, ...]
    nodes: tuple[str, ...]
    unknown: tuple[str, ...]
    obstacles: tuple[str, ...] = ()
    machines: tuple[MachineDifference, ...] = ()
    named: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing would be done and everything could be looked at."""
        return not (
            self.images or self.libvirt or self.machines or self.nodes or self.unknown or self.obstacles
        )

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "empty": self.empty}


def make_plan(description: Description, say: Callable[[str], None]) -> Plan:
    """Look at the images, the hypervisor and the running nodes."""
    obstacles = _obstacles(description, say)
    libvirt: list[str] = []
    unknown: list[str] = []
    nodes: list[str] = []
    named: tuple[str, ...] = ()
    machines: list[MachineDifference] = []
    try:
        for cluster in description.clusters:
            steps, different = _libvirt_steps(cluster, description.path)
            libvirt += steps
            machines += different
    except HpcstateError as error:
        if not obstacles:
            raise
        unknown.append(str(error))
    if unknown:
        unknown.append(f"{deploy.FULL_STACK}: libvirt could not be asked for the nodes")
    elif libvirt:
        unknown.append(f"{deploy.FULL_STACK}: the nodes are not all running, so their state is not known yet")
    else:
        report = deploy.plan(description, say)
        nodes = [f"{operation.name} ({', '.join(operation.changed)})" for operation in report.changed]
        named = report.named
    return Plan(
        tuple(image_steps(description)),
        tuple(libvirt),
        tuple(nodes),
        tuple(unknown),
        obstacles,
        tuple(machines),
        named,
    )


def _obstacles(description: Description, say: Callable[[str], None]) -> tuple[str, ...]:
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


def image_steps(description: Description) -> list[str]:
    """What `doit build_images` would do for the images that are needed."""
    steps, store = [], Store.default()
    for name in needed_images(description):
        recipe = packer.recipe(declared.load(name), store)
        if not recipe.current:
            source = "fetch from the store" if recipe.stored(store) else "build"
            steps.append(f"{source} {recipe.path.name}")
    return steps


def _libvirt_steps(cluster: Cluster, file: Path) -> tuple[list[str], list[MachineDifference]]:
    """What would be made and started, and what is there otherwise than the file says.

    Raises HpcstateError when something of somebody else has the cluster's names.
    """
    if cluster.uri == SYSTEM_URI and not answers():
        # The libvirtd that `up` starts here knows at most what was there before.
        started = [cluster.domain_name(node) for node in cluster.nodes if node.auto_start]
        made = [f"create network {cluster.network.name}", *(f"create and start {name}" for name in started)]
        return made, []
    with connect(cluster.uri) as host:
        if strangers := host.strangers(cluster):
            raise refusal(cluster, file, strangers)
        steps = [] if host.network(cluster) else [f"create network {cluster.network.name}"]
        for node in cluster.nodes:
            state = host.state(cluster, node)
            if node.auto_start and state != "running":
                verb = "create and start" if state == "absent" else "start"
                steps.append(f"{verb} {cluster.domain_name(node)}")
        return steps, differences(host, cluster)


def as_text(plan: Plan) -> str:
    """The plan a person reads."""
    parts = []
    for title, steps in (
        ("stands in the way", plan.obstacles),
        ("doit would", plan.images),
        ("libvirt would", plan.libvirt),
        ("machines differ from the file", tuple(map(str, plan.machines))),
        ("pyinfra would change", plan.nodes),
        ("not known", plan.unknown),
    ):
        if steps:
            parts.append(f"{title}:\n" + "\n".join(f"  {step}" for step in steps))
    if not parts:
        parts.append("nothing to do: images, nodes and their state are as described")
    if plan.named:
        parts.append("left as it is:\n" + "\n".join(f"  {line}" for line in plan.named))
    return "\n".join(parts)
