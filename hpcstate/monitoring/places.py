"""Where the programs that watch a cluster are: their units, packages, ports and files. Pure.

All are Debian's but for what tells of Slurm and of its jobs. Prometheus and Alertmanager run on the
controller; whoever is in ``allow_from`` reaches them. What they ask runs on every node and answers the
controller alone: the firewall says so, and each answers by TLS, to who knows a password or shows a
certificate of the cluster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model import Cluster, Node

FOLDER = "/etc/hpcstate/monitoring"
RULES = f"{FOLDER}/rules"
TLS = f"{FOLDER}/tls"
CERTIFICATE, KEY, AUTHORITY = f"{TLS}/node.crt", f"{TLS}/node.key", f"{TLS}/ca.crt"
WEB = f"{FOLDER}/web.yml"
"""By what an exporter answers (exporter-toolkit, web-configuration.md)."""

WEB_PEOPLE = f"{FOLDER}/web-people.yml"
"""The same of Prometheus and Alertmanager, with the people who may look."""

PROMETHEUS = f"{FOLDER}/prometheus.yml"
ALERTMANAGER = f"{FOLDER}/alertmanager.yml"
PROCESSES = f"{FOLDER}/processes.yml"
MYSQLD = f"{FOLDER}/mysqld.cnf"
SCRAPE_PASSWORD = f"{FOLDER}/scrape.password"
MAIL_PASSWORD = f"{FOLDER}/mail.password"

TEXTFILES = "/var/lib/prometheus/node-exporter"
"""Where Debian's node exporter looks for metrics in files."""

STATIC = f"{TEXTFILES}/hpcstate.prom"

BACKUP = f"{TEXTFILES}/hpcstate-backup.prom"
"""When the last backup was taken; on the controller, by who took it (hpcstate.cluster.backup)."""

DATA = "/srv/hpcstate/prometheus"
"""Prometheus' database: on the data volume, so that it never fills the disk of the system."""

ALERTS_DATA = "/srv/hpcstate/alertmanager"

OWNER = "root:prometheus"
"""The group that all of Debian's packages of them run as."""

SCRAPER = "scrape"
"""The name by which Prometheus logs in at what it asks."""

EXPORTERS = "/usr/local/lib/hpcstate/exporters"
"""The folder of the programs that are ours: Python modules below their package, and what starts them."""

EXPORTERS_START = f"{EXPORTERS}/__main__.py"


@dataclass(frozen=True)
class Watcher:
    """A daemon: its ``unit`` (without ``.service``), Debian's ``packages`` that it needs, and its ``port``.

    ``outside``: it listens where others than its node reach it.
    """

    unit: str
    packages: tuple[str, ...]
    port: int
    outside: bool = True


SERVER = Watcher("prometheus", ("prometheus",), 9090)
ALERTS = Watcher("prometheus-alertmanager", ("prometheus-alertmanager",), 9093)
NODE = Watcher(
    "prometheus-node-exporter", ("prometheus-node-exporter", "prometheus-node-exporter-collectors"), 9100
)
PROCESS = Watcher("prometheus-process-exporter", ("prometheus-process-exporter",), 9256)
DATABASE = Watcher("prometheus-mysqld-exporter", ("prometheus-mysqld-exporter",), 9104, outside=False)
SLURM = Watcher("hpcstate-slurm-exporter", ("python3-prometheus-client",), 9341, outside=False)

JOBS = Watcher("hpcstate-job-exporter", ("python3-prometheus-client",), 9342)

ALL = (SERVER, ALERTS, NODE, PROCESS, DATABASE, SLURM, JOBS)
OURS = (SLURM, JOBS)
"""Those whose units and programs are ours."""

COLLECTORS_ON = ("prometheus-node-exporter-apt.timer",)
COLLECTORS_OFF = tuple(
    f"prometheus-node-exporter-{name}.timer"
    for name in ("ipmitool-sensor", "mellanox-hca-temp", "nvme", "smartmon")
)
"""Timers of Debian's collectors of hardware that a virtual machine has not."""


def watchers(cluster: Cluster, node: Node) -> tuple[Watcher, ...]:
    """What runs on ``node``; nothing where the file has monitoring off."""
    if not cluster.monitoring.on or cluster.kind != "hpc":
        return ()
    controls = node is cluster.controller
    return (
        NODE,
        PROCESS,
        *((JOBS,) if node.role == "compute" else ()),
        *((SLURM,) if controls else ()),
        *((DATABASE,) if controls and cluster.accounting.on else ()),
        *((ALERTS, SERVER) if controls else ()),
    )


def packages(cluster: Cluster, node: Node) -> tuple[str, ...]:
    """Debian's packages of them."""
    return tuple(sorted({name for watcher in watchers(cluster, node) for name in watcher.packages}))


def listen(cluster: Cluster) -> str:
    """The address where people reach Prometheus and Alertmanager."""
    return str(cluster.monitoring.listen or cluster.controller.address)


def guarded(cluster: Cluster, node: Node) -> Mapping[tuple[int, ...], tuple[str, ...]]:
    """Ports of ``node`` that only some may reach, and from where."""
    there = watchers(cluster, node)
    people = tuple(watcher.port for watcher in (SERVER, ALERTS) if watcher in there)
    asked = tuple(watcher.port for watcher in there if watcher.outside and watcher not in (SERVER, ALERTS))
    allowed = (str(cluster.network.gateway), *map(str, cluster.monitoring.allow_from))
    return {
        **({asked: (str(cluster.controller.address),)} if asked else {}),
        **({people: allowed} if people else {}),
    }
