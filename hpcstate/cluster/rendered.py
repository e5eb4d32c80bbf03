"""Every file that a cluster is rendered to, for people and for review: build/<cluster>/rendered/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hpcstate.errors import Problem, ProblemsError
from hpcstate.files import write_atomically
from hpcstate.host.packages import kvm_works
from hpcstate.hypervisor import xml as objects
from hpcstate.model import Cluster
from hpcstate.node import apptainer_files
from hpcstate.node.base_files import cluster_files
from hpcstate.paths import ClusterPaths
from hpcstate.slurm import accounting
from hpcstate.slurm.conf import configuration
from hpcstate.slurm.lint import conf as slurm_lint


def files(cluster: Cluster) -> Mapping[str, str]:
    """Path below the folder to content: Slurm's files, each node's own files, libvirt's XML. No secrets."""
    host = objects.HypervisorFacts(kvm=kvm_works())
    found = {"libvirt/network.xml": objects.network_xml(cluster)}
    if cluster.kind == "hpc":
        found |= {f"slurm/{name}": text for name, text in configuration(cluster).items()}
    containers = apptainer_files.cluster_files(cluster.containers) if cluster.kind == "hpc" else {}
    for path, text in accounting.files(cluster).items():
        found[f"nodes/{cluster.controller.name}{path}"] = text
    for node in cluster.nodes:
        found[f"libvirt/{node.name}.xml"] = objects.domain_xml(cluster, node, host)
        for path, text in {**cluster_files(cluster, node), **containers}.items():
            found[f"nodes/{node.name}{path}"] = text
    return found


def outdated(cluster: Cluster) -> list[str]:
    """What is missing, different, or there without reason, by path below the folder."""
    folder = ClusterPaths.of(cluster.name).rendered
    wanted = files(cluster)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    different = [name for name in wanted.keys() & there if (folder / name).read_text() != wanted[name]]
    return sorted([*different, *(wanted.keys() ^ there)])


def findings(cluster: Cluster) -> Mapping[str, tuple[Problem, ...]]:
    """What Slurm would make of the files that it reads (slurm/lint/conf.py), by file name.

    The places are those of the rendered file; the hint names the cluster file where the key is from there.
    """
    texts = dict(configuration(cluster)) if cluster.kind == "hpc" else {}
    if text := accounting.files(cluster).get(accounting.SLURMDBD_CONF):
        texts["slurmdbd.conf"] = text
    kinds = {name: slurm_lint.kind_of(name) for name in texts}
    return {
        name: tuple(_with_origin(cluster, problem) for problem in slurm_lint.lint(texts[name], kind))
        for name, kind in kinds.items()
        if kind
    }


def write(cluster: Cluster) -> list[str]:
    """Write what is outdated and remove what is no longer rendered. Returns their paths below the folder.

    Raises ProblemsError, and writes nothing, when a daemon would stop at one of the files.
    """
    for file_name, problems in findings(cluster).items():
        errors = tuple(problem for problem in problems if problem.severity == "error")
        if errors:
            raise ProblemsError(f"{cluster.name}: rendered {file_name}", errors)
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


def _with_origin(cluster: Cluster, problem: Problem) -> Problem:
    own = cluster.slurm.parameters if cluster.slurm else {}
    key = next((key for key in own if key.lower() == problem.place.lower()), None)
    if key is None:
        return problem
    origin = f"it is from .clusters.hpc.slurm_config.parameters.{key} of the cluster file"
    return replace(problem, hint="; ".join(part for part in (problem.hint, origin) if part))
