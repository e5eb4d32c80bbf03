"""Every file that a cluster is rendered to, for people and for review: build/<cluster>/rendered/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import libvirt_objects as objects
from hpcstate.host_packages import kvm_works
from hpcstate.model import Cluster
from hpcstate.node_files import cluster_files
from hpcstate.paths import ClusterPaths
from hpcstate.slurm_conf import configuration
from hpcstate.store import write_atomically


def files(cluster: Cluster) -> Mapping[str, str]:
    """Path below the folder to content: Slurm's files, each node's own files, libvirt's XML. No secrets."""
    host = objects.HypervisorFacts(kvm=kvm_works())
    found = {"libvirt/network.xml": objects.network_xml(cluster)}
    if cluster.kind == "hpc":
        found |= {f"slurm/{name}": text for name, text in configuration(cluster).items()}
    for node in cluster.nodes:
        found[f"libvirt/{node.name}.xml"] = objects.domain_xml(cluster, node, host)
        for path, text in cluster_files(cluster, node).items():
            found[f"nodes/{node.name}{path}"] = text
    return found


def outdated(cluster: Cluster) -> list[str]:
    """What is missing, different, or there without reason, by path below the folder."""
    folder = ClusterPaths.of(cluster.name).rendered
    wanted = files(cluster)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    different = [name for name in wanted.keys() & there if (folder / name).read_text() != wanted[name]]
    return sorted([*different, *(wanted.keys() ^ there)])


def write(cluster: Cluster) -> list[str]:
    """Write what is outdated and remove what is no longer rendered. Returns their paths below the folder."""
    folder = ClusterPaths.of(cluster.name).rendered
    wanted = files(cluster)
    names = outdated(cluster)
    for name in names:
        path: Path = folder / name
        if name in wanted:
            write_atomically(path, wanted[name])
        else:
            path.unlink()
    return names
