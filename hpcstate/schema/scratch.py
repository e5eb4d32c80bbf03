"""Where the jobs of a cluster have a folder of their own (``storage.scratch``), and where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hpcstate.model import Home, Node, SlurmConfig
from hpcstate.model.cluster import SCRATCH
from hpcstate.schema.keys import StorageKeys
from hpcstate.schema.section import Section


def read_scratch(
    storage: Section,
    kind: Literal["hpc", "cloud"],
    home: Home,
    slurm: SlurmConfig | None,
    nodes: Sequence[Node],
) -> str:
    """The folder on the compute nodes; empty without one, and where it cannot be (reported)."""
    scratch = storage.value(StorageKeys.scratch)
    if not scratch:
        return ""
    place, error = storage.at(StorageKeys.scratch), storage.report.error
    if kind != "hpc":
        error(place, "only the jobs of a Slurm cluster have a folder of their own", "leave it out")
        return ""
    if any(key.lower() == "taskprolog" for key in (slurm.parameters if slurm else {})):
        error(
            place,
            "the folders are made by TaskProlog, and slurm_config.parameters name another one",
            "keep one of the two",
        )
    if scratch == SCRATCH:
        if home != "nfs":
            error(
                place,
                f"the controller's NFS server is there for the homes, which are {home}",
                "write home: nfs, or the path of a folder on one of mounts",
            )
        return scratch
    lacking = [node for node in nodes if not any(each.holds(scratch) for each in node.mounts)]
    if lacking:
        error(
            place,
            f"{scratch} lies on no mount of {_listed(lacking)}",
            "take a folder on one of mounts that all nodes have, the controller too: it removes what is left",
        )
    if reading := [
        node for node in nodes if any(each.holds(scratch) and each.read_only for each in node.mounts)
    ]:
        error(place, f"{scratch} is read-only on {_listed(reading)}", "take a mount that is writable")
    return scratch


def _listed(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes[:5]) + (", …" if len(nodes) > 5 else "")
