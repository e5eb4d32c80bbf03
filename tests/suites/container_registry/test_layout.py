"""The registry of containers of every node: its folders, its configuration, and who may do what there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.registry import difference as registry_difference
from hpcstate.registry import layout as registry
from tests.suites.breaking import Edit, append, edited, last_worker, mode
from tests.suites.registry_state import NodeRegistry, declared

_NEXT = f"{DEPLOY_AGAIN}; `hpcstate plan` shows what it would change"


def test_layout(registries: Mapping[str, NodeRegistry], record_property: RecordProperty) -> None:
    """The registry of every node has its folders, root:slurm 755; what is on its way is root's only"""
    findings = [
        f"{name}: {path} is not {' '.join(registry.folders()[path])}"
        for name, found in registries.items()
        for path in registry_difference.wrong_folders(found.state)
    ]
    if findings:
        raise CheckFailed("the folders of the registry, root:slurm 755", "; ".join(findings), _NEXT)
    record_property("observed", f"{len(registry.folders())} folders on each of {len(registries)} nodes")


def test_configuration(
    cluster: Cluster, registries: Mapping[str, NodeRegistry], record_property: RecordProperty
) -> None:
    """config.yaml of every registry is what the cluster file says"""
    wanted = registry.config_text(cluster.name, cluster.containers)
    wrong = [name for name, found in registries.items() if found.state["config"] != wanted]
    if wrong:
        raise CheckFailed(f"the rendered {registry.CONFIG}", f"another one on {', '.join(wrong)}", _NEXT)
    signature = "needs" if cluster.containers.require_signature else "does not need"
    record_property(
        "observed", f"the same on {len(registries)} nodes; a container {signature} the project's signature"
    )


def test_access(registries: Mapping[str, NodeRegistry], record_property: RecordProperty) -> None:
    """The ordinary user can read every container on every node, and write none, nor beside them"""
    findings = [f"{name}: {JOB_USER} {text}" for name, found in registries.items() for text in found.access]
    if findings:
        raise CheckFailed(
            "a registry that users read and only root writes",
            "; ".join(findings),
            "modes and owners: container-registry.layout and container-registry.files",
        )
    files = sum(len(found.state["files"]) for found in registries.values())
    record_property("observed", f"{files} files on {len(registries)} nodes, opened and tried to write")


@fault(
    "everybody may write to a folder of a node's registry",
    "container-registry.layout",
    "container-registry.access",
)
def folder_open(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, f"{registry.ROOT}/ml-frameworks", "777"):
        yield


@fault("the registry of a node is closed to users", "container-registry.layout", "container-registry.access")
def folder_closed(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, registry.ROOT, "750"):
        yield


@fault("config.yaml of a node's registry was changed", "container-registry.configuration")
def other_configuration(live: Live) -> Iterator[None]:
    with edited(live, [Edit(last_worker(live).name, registry.CONFIG, append("extra: yes"))]):
        yield


@fault(
    "everybody may write to a container of a node",
    "container-registry.access",
    "container-registry.files",
    needs_containers=("mpi-minimal",),
)
def file_open(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, f"{registry.ROOT}/{declared(live)[0].file}", "666"):
        yield
