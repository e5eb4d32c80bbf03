"""All that operations manage on nodes; ``python -m operations.util.managed`` writes it to docs/drift.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hpcstate import paths
from hpcstate.files import rewrite_page
from hpcstate.node.managed import Managed, rewritten
from operations import (
    accounting,
    apptainer,
    associations,
    cgroup,
    data_volume,
    directory,
    gpu,
    gres,
    homes,
    in_force,
    mig,
    monitoring,
    mounts,
    munge,
    node_runs,
    nvidia,
    packages,
    partitions,
    quotas,
    registry,
    reservations,
    services,
    slurm,
    text_files,
    timers,
    users,
)

PAGE = paths.ROOT / "docs" / "drift.md"
COMMAND = "python -m operations.util.managed"

ROWS: tuple[Managed, ...] = (
    *text_files.MANAGED,
    *services.MANAGED,
    *in_force.MANAGED,
    *users.MANAGED,
    *directory.MANAGED,
    *munge.MANAGED,
    *apptainer.MANAGED,
    *data_volume.MANAGED,
    *quotas.MANAGED,
    *homes.MANAGED,
    *mounts.MANAGED,
    *accounting.MANAGED,
    *associations.MANAGED,
    *slurm.MANAGED,
    *cgroup.MANAGED,
    *gpu.MANAGED,
    *gres.MANAGED,
    *nvidia.MANAGED,
    *mig.MANAGED,
    *registry.MANAGED,
    *node_runs.MANAGED,
    *packages.MANAGED,
    *timers.MANAGED,
    *reservations.MANAGED,
    *partitions.MANAGED,
    *monitoring.MANAGED,
)
"""In the order of the page."""


def main(arguments: Sequence[str]) -> int:
    """Write the table of the page named in ``arguments``, docs/drift.md if none is. The exit code."""
    path = Path(arguments[0]) if arguments else PAGE
    return rewrite_page(path, lambda page: rewritten(page, ROWS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
