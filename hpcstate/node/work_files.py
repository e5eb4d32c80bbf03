"""What a person works with, beside packages: seff, the folder of modules, the message of the day. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import paths
from hpcstate.model import Cluster, Node
from hpcstate.node.data_volume import HOME
from hpcstate.render import of_site, render

SEFF = "/usr/local/bin/seff"
STATE_PROGRAM = "/usr/local/bin/cluster-state"
MOTD = "/etc/profile.d/hpcstate-motd.sh"

SHARED = f"{HOME}/shared"
"""Of the cluster, not of a person; who may become root may write there. Shared where homes are."""

MODULES = f"{SHARED}/modulefiles"
MODULES_PROFILE = "/etc/profile.d/hpcstate-modules.sh"
"""Read before lmod.sh of Debian, which takes LMOD_SITE_MODULEPATH from it."""

MODES: Mapping[str, str] = {SEFF: "755", STATE_PROGRAM: "755"}
"""Modes of those files that are not 644."""

_SLURM = paths.ROOT / "hpcstate" / "slurm"


def seff() -> str:
    """The text of seff: a Python program in one file, of the rules of ``hpcstate usage`` and its own lines.

    ``-I``: what somebody has in PYTHONPATH, in their home or beside it is not run.
    """
    parts = [(_SLURM / name).read_text(encoding="utf-8") for name in ("job_use.py", "seff.py")]
    lines = [line for part in parts for line in part.splitlines()]
    kept = [line for line in lines if not line.startswith(("from __future__", "from hpcstate"))]
    head = ("#!/usr/bin/python3 -I", "from __future__ import annotations")
    return "\n".join((*head, *kept)) + "\n"


@of_site
def files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content on ``node`` of a Slurm cluster. The message of the day is where people log in,
    and on the controller."""
    motd = {
        STATE_PROGRAM: Path(__file__).with_name("cluster_state.sh").read_text(encoding="utf-8"),
        MOTD: render("base/motd.sh.j2", program=STATE_PROGRAM),
    }
    return {
        SEFF: seff(),
        MODULES_PROFILE: render("base/modules.sh.j2", folder=MODULES, homes=HOME),
        **(motd if node in (cluster.controller, *cluster.login_nodes) else {}),
    }
