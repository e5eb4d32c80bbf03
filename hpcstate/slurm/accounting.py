"""What records the jobs of a cluster: slurmdbd and its MariaDB, both on the controller. Pure: model in, text
out; nothing for a cluster whose file turns accounting off.

Nobody but slurmdbd talks to the database, by a unix socket as the user that it runs as: there is no password.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpcstate.model import Cluster
from hpcstate.render import of_site, render
from hpcstate.slurm.conf import CONF_DIRECTORY, STATE

DATABASE = "slurm_acct_db"
"""The database's name: slurmdbd's default (slurmdbd.conf(5), StorageLoc)."""

USER = "slurm"
"""The user that slurmdbd runs as, and its user of the database."""

DATA = "/var/lib/mysql"
"""Where Debian's MariaDB has its databases."""

SLURMDBD_CONF = f"{CONF_DIRECTORY}/slurmdbd.conf"
MARIADB_CONF = "/etc/mysql/mariadb.conf.d/90-hpcstate.cnf"
"""Read after Debian's own (50-server.cnf), so that it counts."""

CLIENT_CONF = "/var/lib/hpcstate/accounting/slurm.conf"
"""A slurm.conf for sacctmgr: the cluster's own does not name a slurmdbd before there is one."""

APPLIED = "/var/lib/hpcstate/accounting/applied"
"""Copies of the files that the daemons were last started with: what differs is still to be done."""

CLUSTERNAME = f"{STATE}/clustername"
"""Where slurmctld keeps the name and the number of its cluster (``lab|2967``)."""

MIN_POOL_MB, MAX_POOL_MB = 128, 4096


def buffer_pool_mb(memory_mb: int) -> int:
    """MariaDB's cache in MiB on a controller of ``memory_mb`` MiB: a quarter of it.

    It is filled as the tables grow: an empty database has 130 MB of memory in use whatever this says (11.8).
    The upper end is what is recommended (slurm.schedmd.com/accounting.html, Slurm Accounting Configuration
    Before Build: 4 GB). slurmdbd 24.11.5 logs "not recommended" below about half of that, and works.
    """
    return max(MIN_POOL_MB, min(MAX_POOL_MB, memory_mb // 4))


@of_site
def files(cluster: Cluster) -> Mapping[str, str]:
    """Path on the controller to content of what slurmdbd, MariaDB and sacctmgr read; none with it off."""
    if cluster.kind != "hpc" or not cluster.accounting.on:
        return {}
    controller = cluster.controller
    return {
        MARIADB_CONF: render("slurm/mariadb.cnf.j2", pool_mb=buffer_pool_mb(controller.memory_mb)),
        SLURMDBD_CONF: render(
            "slurm/slurmdbd.conf.j2",
            cluster_name=cluster.name,
            controller=controller,
            database=DATABASE,
            user=USER,
        ),
        CLIENT_CONF: render(
            "slurm/accounting-client.conf.j2", cluster_name=cluster.name, controller=controller
        ),
    }


def question(cluster_name: str, paths: Iterable[str] = ()) -> dict[str, Any]:
    """The arguments of hpcstate.probe.accounting.command for a controller, and the files at ``paths``."""
    return {
        "cluster": cluster_name,
        "files": tuple(paths),
        "database": DATABASE,
        "user": USER,
        "client": CLIENT_CONF,
        "applied": APPLIED,
        "clustername": CLUSTERNAME,
    }
