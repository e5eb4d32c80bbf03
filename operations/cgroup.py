"""Control groups, which Slurm isolates jobs with."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand
from pyinfra.context import host

from facts.cgroup import CgroupControllers
from hpcstate.node.managed import Managed
from operations.util.arguments import operation
from operations.util.commands import stop_host

NEEDED = ("cpuset", "cpu", "memory", "pids")

MANAGED = (
    Managed(
        "cgroup",
        "control groups, version 2, with cpuset, cpu, memory and pids",
        "/sys/fs/cgroup",
        "cgroup.controllers",
        "stops",
        "another kernel command line",
    ),
)


@operation()
def require(controllers: Sequence[str] = NEEDED) -> Generator[PyinfraCommand, None, None]:
    """Stops the host unless it has cgroup version 2 with ``controllers``: jobs would not be held to anything.

    Version 2 needs no controller for devices: Slurm filters them by eBPF (src/plugins/cgroup/v2).
    """
    cgroup = host.get_fact(CgroupControllers)
    if cgroup["version"] != 2:
        yield stop_host(
            f"this host has cgroup version {cgroup['version']}, Slurm's isolation needs version 2: "
            "boot it without systemd.unified_cgroup_hierarchy=0"
        )
        return
    missing = [controller for controller in controllers if controller not in cgroup["controllers"]]
    if missing:
        yield stop_host(
            f"the kernel offers no cgroup controller {', '.join(missing)} (it has "
            f"{', '.join(cgroup['controllers']) or 'none'}): look for cgroup_disable= on its command line"
        )
        return
    host.noop(f"cgroup version 2 has {', '.join(controllers)}")
