"""What a node has for its health: the programs, what they are told, the user's checks. Pure.

The programs on nodes are the modules of this room and what they import, as they are here: one place decides
what a healthy GPU is. They are standard library only, and Debian's Python runs them from a folder of their
own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.imports import imported_files
from hpcstate.model import Cluster, HealthCheck, Node
from hpcstate.model.health import CHECKS
from hpcstate.node import scratch
from hpcstate.node.data_volume import HOME
from hpcstate.slurm.conf import EPILOG, HEALTH_PROGRAM, JOB_TMP, PROLOG, real_memory_mb

FOLDER = HEALTH_PROGRAM.rpartition("/")[0]
"""The programs on a node."""

CONFIG = "/etc/hpcstate/health.json"
OWN = "/etc/hpcstate/health.d"
LOGROTATE = "/etc/logrotate.d/hpcstate-health"
RECORDS = ("/var/log/slurm/job_events.jsonl", "/var/log/slurm/health.jsonl")

PROGRAMS: Mapping[str, str] = {"check": "node", "job": "job", "active": "active", "bench": "bench"}
"""The programs in FOLDER, and the module of this room that each runs."""

SLURMCTLD_PORT = 6817
"""slurm.conf(5), SlurmctldPort."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HERE = Path(__file__).parent
Files = dict[str, tuple[str, str]]
"""Path to content and mode."""


def checks(cluster: Cluster) -> tuple[HealthCheck, ...]:
    """The checks of ``cluster``: ours that are on, those of ``note_only`` without a drain, and the user's."""
    health = cluster.health
    ours = (check for check in CHECKS if check.name not in health.off)
    return (
        *(replace(check, on_fail="note") if check.name in health.note_only else check for check in ours),
        *health.own,
    )


def config(cluster: Cluster, node: Node) -> str:
    """What the programs on ``node`` are told, as JSON."""
    own = {key.lower(): value for key, value in (cluster.slurm.parameters if cluster.slurm else {}).items()}
    port = own.get("slurmctldport", "").partition("-")[0]
    mounts = [mount.mount_point for mount in (*node.mounts, *scratch.mounts(cluster, node))]
    homes = [HOME] if cluster.home != "local" and node is not cluster.controller else []
    words = {
        "node": node.name,
        "address": str(node.address),
        "controller": [str(cluster.controller.address), int(port) if port.isdecimal() else SLURMCTLD_PORT],
        "memory_mb": real_memory_mb(node.memory_mb),
        "gpus": len(node.gres_types) - (node.simulated_gpus.count if node.simulated_gpus else 0),
        "mounts": [*homes, *mounts],
        "daemons": ["munge.service", "chrony.service", "ssh.service"],
        "container_programs": ["apptainer", "container-exec"],
        "job_tmp": own.get("tmpfs", JOB_TMP),
        "full_percent": cluster.health.full_percent,
        "inodes_percent": cluster.health.inodes_percent,
        "clock_s": cluster.health.clock_s,
        "gpu_container": next((name for name in cluster.containers.deploy if "cuda" in name), ""),
        "programs": hashlib.sha256("".join(modules().values()).encode()).hexdigest(),
        "checks": [
            {
                "name": check.name,
                "contexts": check.contexts,
                "on_fail": check.on_fail,
                "timeout_s": check.timeout_s,
                "after": check.after,
                "states": check.states,
                "own": bool(check.program),
            }
            for check in checks(cluster)
        ],
    }
    return json.dumps(words, indent=1) + "\n"


@cache
def modules() -> Mapping[str, str]:
    """The modules and their tables, by path below FOLDER."""
    starts = [_HERE / f"{module}.py" for module in PROGRAMS.values()]
    found = imported_files(starts, paths.ROOT, ("hpcstate",))
    packages = {path.parent / "__init__.py" for path in found if path.suffix == ".py"}
    return {
        path.relative_to(paths.ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted({*found, *packages})
    }


def launcher(module: str) -> str:
    """The text of a program: ``-I``, so that nothing of anybody's is imported, and ``-B``, so that nothing is
    left beside the modules. slurmd gives its programs, and srun --export=NONE its tasks, no PATH."""
    return (
        "#!/usr/bin/python3 -IB\n"
        "import os\n"
        "import sys\n\n"
        f'os.environ["PATH"] = "{_PATH}"\n'
        f'sys.path.insert(0, "{FOLDER}")\n'
        f"from hpcstate.health.{module} import main\n\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )


def files(cluster: Cluster, node: Node) -> Files:
    """The files on ``node``, what they need before them: on compute nodes all, on the controller what starts
    the active checks; none where health is off."""
    if not cluster.health.on or (node.role != "compute" and node is not cluster.controller):
        return {}
    found: Files = {f"{FOLDER}/{name}": (text, "644") for name, text in modules().items() if text}
    found |= {f"{FOLDER}/{name}": (launcher(module), "755") for name, module in PROGRAMS.items()}
    if node.role == "compute":
        found |= {f"{OWN}/{check.name}": (check.program, "755") for check in cluster.health.own}
        found[LOGROTATE] = (_rotation(), "644")
        found[PROLOG] = ((_HERE / "prolog.sh").read_text(encoding="utf-8"), "755")
        found[EPILOG] = ((_HERE / "epilog.sh").read_text(encoding="utf-8"), "755")
    found[CONFIG] = (config(cluster, node), "644")
    return found


def _rotation() -> str:
    """What logrotate(8) does with the records: each is written anew by who appends to it next."""
    head = "# Managed by hpcstate: changes made here are undone by the next deploy.\n"
    words = ("su root adm", "size 10M", "rotate 8", "compress", "delaycompress", "missingok", "notifempty")
    lines = "".join(f"    {word}\n" for word in (*words, "nocreate"))
    return f"{head}{' '.join(RECORDS)} {{\n{lines}}}\n"
