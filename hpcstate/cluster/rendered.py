"""Every file that a cluster is rendered to, for people and for review: build/<cluster>/rendered/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hpcstate.errors import Problem, ProblemsError
from hpcstate.files import write_atomically
from hpcstate.host.packages import kvm_works
from hpcstate.hypervisor import xml as objects
from hpcstate.model import Cluster
from hpcstate.node import apptainer_files, homes
from hpcstate.node.base_files import cluster_files
from hpcstate.node.work_files import files as work_files
from hpcstate.paths import ClusterPaths
from hpcstate.slurm import accounting
from hpcstate.slurm.conf import configuration
from hpcstate.slurm.lint import conf as slurm_lint
from hpcstate.slurm.read import names


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
        own = {**cluster_files(cluster, node), **homes.files(cluster, node), **containers}
        for path, text in own.items():
            found[f"nodes/{node.name}{path}"] = text
    return found


def demand_templates(cluster: Cluster) -> None:
    """Raises HpcstateError where a template of the site fails, before anything is changed."""
    if not cluster.templates:
        return
    if cluster.kind == "hpc":
        configuration(cluster)
        accounting.files(cluster)
    for node in cluster.nodes:
        cluster_files(cluster, node)
        homes.files(cluster, node)
        work_files(cluster, node)


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
    changed = outdated(cluster)
    for name in changed:
        path: Path = folder / name
        if name in wanted:
            write_atomically(path, wanted[name])
        else:
            path.unlink()
    return changed


def _with_origin(cluster: Cluster, problem: Problem) -> Problem:
    origin = _origin(cluster, problem.place)
    if not origin:
        return problem
    origin = f"it is from {origin} of the cluster file"
    return replace(problem, hint="; ".join(part for part in (problem.hint, origin) if part))


def _origin(cluster: Cluster, place: str) -> str:
    """Where the cluster file has the key at ``place`` of slurm.conf (``Key``, ``NodeName=x Key``); empty
    where it is hpcstate's own."""
    if cluster.slurm is None:
        return ""
    record, _, key = place.rpartition(" ")
    kind, _, name = record.partition("=")
    if not record:
        return _spelled(".clusters.hpc.slurm_config.parameters", cluster.slurm.parameters, key)
    if kind == "PartitionName":
        for index, partition in enumerate(cluster.slurm.partitions):
            if partition.name == name:
                return _spelled(f".clusters.hpc.slurm_config.partitions[{index}]", partition.options, key)
    named = next((node for node in cluster.workers if node.name in (names(name) or ())), None)
    return _spelled(f"{named.place}.extra_slurm", named.extra_slurm, key) if named else ""


def _spelled(section: str, keys: Iterable[str], key: str) -> str:
    """The place of ``key``, in any case, among ``keys`` of ``section``; empty where it is none of them."""
    found = next((own for own in keys if own.lower() == key.lower()), "")
    return f"{section}.{found}" if found else ""
