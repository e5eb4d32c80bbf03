"""The files that every node has: names, time, users, firewall, SSH. Pure: model in, text out."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import JOB_USER
from hpcstate.render import render
from hpcstate.slurm.accounting import DATA
from hpcstate.slurm.conf import STATE

JOB_UID = 2000
"""The number of the job user on all nodes: Slurm and munge pass numbers, not names."""

HOSTS = "/etc/hosts"
FIREWALL = "/etc/nftables.conf"
SSHD = "/etc/ssh/sshd_config.d/10-hpcstate.conf"
CHRONY = "/etc/chrony/conf.d/hpcstate.conf"
SYSUSERS = "/etc/sysusers.d/hpcstate.conf"
TMPFILES = "/etc/tmpfiles.d/hpcstate.conf"
SYSCTL = "/etc/sysctl.d/90-hpcstate.conf"

SYSCTLS: Mapping[str, str] = {"user.max_user_namespaces": "15000", "kernel.unprivileged_userns_clone": "1"}
"""Values of the kernel that have to be in force: Apptainer makes a user namespace for each container. How
many there may be: Apptainer's admin guide, "User Namespaces & Fakeroot". The second key is Debian's own."""

RESTARTING = ("munge", "slurmctld", "slurmd", "slurmdbd", "mariadb")
"""The daemons that start again by themselves after a crash. Debian's units of Slurm do not, those of munge
and MariaDB only after a signal."""

_KEEPS: Mapping[str, str] = {"slurmctld": STATE, "mariadb": DATA}
"""What a daemon must find where it keeps its state."""


def image_files() -> Mapping[str, str]:
    """Path to content of what is the same in every cluster, so that the image has it already.

    The firewall of an image lets in SSH only, until a deploy tells it the cluster's subnet.
    """
    return {
        SSHD: render("base/sshd.conf.j2"),
        SYSUSERS: render("base/sysusers.conf.j2", user=JOB_USER, uid=JOB_UID),
        TMPFILES: render("base/tmpfiles.conf.j2", user=JOB_USER),
        SYSCTL: render("base/sysctl.conf.j2", sysctls=SYSCTLS),
        FIREWALL: render("base/nftables.conf.j2", subnet=""),
    }


def drop_in(unit: str) -> str:
    """The path of our drop-in for the service ``unit`` (``slurmd``)."""
    return f"/etc/systemd/system/{unit}.service.d/hpcstate.conf"


def service_files() -> Mapping[str, str]:
    """Path to content of what systemd is told of munge's and Slurm's daemons: in the image of a Slurm node,
    and on every node of a Slurm cluster."""
    return {
        drop_in(unit): render("base/restart.conf.j2", seconds=120, times=6, mounts=_KEEPS.get(unit, ""))
        for unit in RESTARTING
    }


def cluster_files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content of all the files of ``node``: the image's, and those that tell of the cluster."""
    subnet = str(cluster.network.subnet)
    return {
        **image_files(),
        **(service_files() if cluster.kind == "hpc" else {}),
        HOSTS: render("base/hosts.j2", cluster_name=cluster.name, nodes=cluster.nodes),
        FIREWALL: render("base/nftables.conf.j2", subnet=subnet),
        CHRONY: render(
            "base/chrony.conf.j2",
            is_controller=node is cluster.controller,
            subnet=subnet,
            controller_address=cluster.controller.address,
        ),
    }
