"""From the cluster file to pyinfra's hosts, groups and host data.

``inventories/<name>.py`` is two lines that call ``groups_beside``; deploys get the typed cluster back with
``cluster_of``. Nothing here imports pyinfra: an inventory is plain lists of (name, data).
"""

from __future__ import annotations

import difflib
import os
import socket
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcstate import schema
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Description, Node
from hpcstate.node.ssh import SSH_USER, demand_key
from hpcstate.paths import ClusterPaths, shown

Host = tuple[str, dict[str, Any]]
Groups = dict[str, list[Host]]

GROUPS = ("controller", "compute", "login", "gpu", "control_plane", "worker")

CONNECTOR = "hpcstate"
"""The name of operations/util/connector.py in pyproject.toml."""

FILE_VARIABLE = "HPCSTATE_CLUSTER_FILE"
"""The cluster file of inventories/chosen.py."""

ALSO_VARIABLE = "HPCSTATE_NODES"
"""Names of nodes, separated by commas, that were started by hand though the file says auto_start: false."""


def groups(description: Description, also: Collection[str] = ()) -> Groups:
    """The groups of all clusters of the file, each with its hosts and their data.

    Every group of GROUPS is there, if empty: pyinfra makes a group of *all* hosts of a file's name when the
    file defines none (pyinfra_cli.inventory), and gpu.py would then make every node a GPU node.
    Nodes with ``auto_start: false`` are left out, since they do not run, unless ``also`` names them.
    """
    found: Groups = {group: [] for group in GROUPS}
    for cluster in description.clusters:
        for node in cluster.nodes:
            if not node.auto_start and node.name not in also:
                continue
            host = (node.name, host_data(description.path, cluster, node))
            found[node.role].append(host)
            if cluster.kind == "hpc" and node.gres_types:
                found["gpu"].append(host)
    return found


def host_data(cluster_file: Path, cluster: Cluster, node: Node) -> dict[str, Any]:
    """pyinfra's data of one host: how to reach it (its host key is known beforehand), and what it is."""
    files = ClusterPaths.of(cluster.name)
    return {
        "ssh_hostname": str(node.address),
        "ssh_user": SSH_USER,
        "ssh_key": str(files.ssh_key),
        "ssh_known_hosts_file": str(files.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "cluster_kind": cluster.kind,
        "role": node.role,
        "node": node.name,
        "cluster_file": str(cluster_file.resolve()),
        "build_mode": False,
    }


def groups_beside(inventory_file: str) -> Groups:
    """The groups of the cluster file next to an inventory: gpu.yaml for gpu.py. Raises as ``groups_of``."""
    return groups_of(Path(inventory_file).with_suffix(".yaml"))


def groups_of_environment() -> Groups:
    """The groups of the cluster file that HPCSTATE_CLUSTER_FILE names, for files without an inventory beside
    them. Raises as ``groups_of``, and SystemExit where it is not set.
    """
    file = os.environ.get(FILE_VARIABLE)
    if not file:
        raise SystemExit(
            f"whose nodes? Set {FILE_VARIABLE} to a cluster file: {FILE_VARIABLE}=FILE pyinfra …"
        )
    return groups_of(Path(file))


def groups_of(path: Path) -> Groups:
    """The groups of the cluster file ``path``.

    Raises SystemExit with the problems of the file: pyinfra would show any other error with a traceback.
    """
    refuse_wrong_data(sys.argv)
    also = [name for name in os.environ.get(ALSO_VARIABLE, "").split(",") if name]
    try:
        description = schema.load(path)
        found = groups(description, also)
        if _is_pyinfra(sys.argv):
            for cluster in description.clusters:
                demand_key(cluster, path)
            _demand_answer(description, found)
        return connected(found)
    except HpcstateError as error:
        raise SystemExit(str(error)) from None


_SSH_PORT = 22
_ANSWER_SECONDS = 3.0


def _demand_answer(description: Description, found: Groups) -> None:
    """Raises HpcstateError where not one node of the file takes a connection: pyinfra would tell of each that
    it could not connect, and not why. A cluster on another machine is left to pyinfra: the way there may be
    in the user's own configuration of SSH.
    """
    addresses = sorted({data["ssh_hostname"] for hosts in found.values() for _, data in hosts})
    if not addresses or any(urlsplit(cluster.uri).netloc for cluster in description.clusters):
        return
    if not _no_answer(addresses[0]):
        return
    with ThreadPoolExecutor(min(32, len(addresses))) as pool:
        why = list(pool.map(_no_answer, addresses))
    if all(why):
        names = " and ".join(repr(cluster.name) for cluster in description.clusters)
        nodes = f"{addresses[0]}: {why[0]}" if len(why) == 1 else f"none of {len(why)} nodes, {why[0]}"
        raise HpcstateError(
            f"no node of {names} answers by SSH ({nodes})",
            where=shown(description.path),
            hint=f"`hpcstate status {shown(description.path)}` says whether they are off, and "
            f"./hpc up {shown(description.path)} starts them",
        )


def _no_answer(address: str) -> str:
    """Why nobody takes a connection at ``address``; empty where somebody does."""
    try:
        with socket.create_connection((address, _SSH_PORT), timeout=_ANSWER_SECONDS):
            return ""
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()


CHOICES = (
    "slurm_drain_seconds",
    "slurm_force",
    "nvidia_modules",
    "nvidia_update",
    "nvidia_reboot",
    "vfio_force",
    "machines_first",
)
"""What the project's deploys take from ``--data``."""


def refuse_wrong_data(argv: Sequence[str]) -> None:
    """Raises SystemExit where ``pyinfra … --data`` in ``argv`` is no ``key=value`` (pyinfra 3.10 would make
    a traceback of it), or all but names a key of CHOICES, which it would take for somebody else's."""
    if not _is_pyinfra_program(argv):
        return
    given = [word for before, word in pairwise(argv) if before == "--data"]
    given += [word.removeprefix("--data=") for word in argv if word.startswith("--data=")]
    for word in given:
        key, equals, value = word.partition("=")
        if not equals:
            raise SystemExit(f"--data {word}: KEY=VALUE is meant, like --data slurm_drain_seconds=60")
        near = difflib.get_close_matches(key, CHOICES, n=1, cutoff=0.85)
        if near and key not in CHOICES:
            raise SystemExit(f"--data {word}: no deploy reads {key!r}; did you mean {near[0]}={value}?")


def _is_pyinfra_program(argv: Sequence[str]) -> bool:
    program = Path(argv[0])
    return program.name == "pyinfra" or program.parts[-2:] == ("pyinfra", "__main__.py")


def _is_pyinfra(argv: Sequence[str]) -> bool:
    """Whether this process is the program pyinfra and will connect to the hosts: without a key it would say
    so with a traceback for each."""
    return _is_pyinfra_program(argv) and "debug-inventory" not in argv


def connected(found: Groups) -> Groups:
    """``found`` with what only pyinfra's own connections use: no data to show, but a function."""
    from hpcstate.cluster.ssh_transport import prompt_transport

    how = {"ssh_paramiko_connect_kwargs": {"transport_factory": prompt_transport}}
    # A Python that hpcstate is not installed in has pyinfra's own connector only.
    way = f"@{CONNECTOR}/" if entry_points(group="pyinfra.connectors", name=CONNECTOR) else ""
    return {name: [(f"{way}{host}", data | how) for host, data in hosts] for name, hosts in found.items()}


@lru_cache
def cluster_of(cluster_file: str, kind: str) -> Cluster:
    """The cluster ``kind`` of a file, for deploys, which have both in ``host.data``. Read once in a process.

    Raises ProblemsError like schema.load, HpcstateError when there is none.
    """
    cluster = schema.load(Path(cluster_file)).cluster(kind)
    if cluster is None:
        raise HpcstateError(f"the file describes no cluster {kind!r}", where=f"{cluster_file}: .clusters")
    return cluster
