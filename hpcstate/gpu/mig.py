"""The MIG instances that a node's GPUs should be split into, and the files that keep them so. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.probe.gpu import Gpus
from hpcstate.render import render
from hpcstate.slurm.gres import DeclaredGres, mig_profiles, pairs

CONFIGURATION = "/etc/hpcstate/mig.conf"
SCRIPT = "/usr/local/sbin/hpcstate-mig"
UNIT = "hpcstate-mig.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
FILES = (CONFIGURATION, SCRIPT, UNIT_FILE)


def wanted(declared: DeclaredGres, gpus: Gpus) -> dict[str, tuple[str, ...]]:
    """The profiles of each declared GPU that is there, by its PCI address; none for a whole GPU."""
    return {
        device["address"]: gpu.mig
        for gpu, device in pairs(declared.gpus, gpus["devices"])
        if device is not None and not device["simulated"]
    }


def different(declared: DeclaredGres, gpus: Gpus) -> list[str]:
    """The PCI addresses of the declared GPUs that are split into other instances than declared."""
    return [
        device["address"]
        for gpu, device in pairs(declared.gpus, gpus["devices"])
        if device is not None and not device["simulated"] and sorted(gpu.mig) != mig_profiles(device)
    ]


def files(profiles: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The files on the node, path to content."""
    lines = [f"{address} {' '.join(instances) or 'whole'}" for address, instances in sorted(profiles.items())]
    header = "# Managed by hpcstate: each GPU and the MIG instances that it is split into."
    return {
        CONFIGURATION: "\n".join((header, *lines, "")),
        SCRIPT: render("nvidia/mig.sh.j2", configuration=CONFIGURATION),
        UNIT_FILE: render("nvidia/mig.service.j2", configuration=CONFIGURATION, script=SCRIPT),
    }
