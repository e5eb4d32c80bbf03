"""Where the programs that watch a cluster are: their units, packages, ports and files. Pure.

All are Debian's but for what tells of Slurm, of its jobs and of GPUs, and for those whose repository stands
in the file. Prometheus and Alertmanager run on the
controller; whoever is in ``allow_from`` reaches them. What they ask runs on every node and answers the
controller alone: the firewall says so, and each answers by TLS, to who knows a password or shows a
certificate of the cluster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model import Cluster, Node
from hpcstate.model.monitoring import PackageSource

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
DCGM_FIELDS = f"{FOLDER}/dcgm.csv"
"""What dcgm-exporter asks DCGM for."""

HOST_ENGINE = "/etc/systemd/system/nvidia-dcgm.service.d/hpcstate.conf"
"""Our drop-in for DCGM's daemon, which dcgm-exporter's unit wants and does not need."""

CONSOLES = f"{FOLDER}/consoles"
"""Prometheus' folder of pages, which it serves below /consoles/."""

PAGE = f"{CONSOLES}/cluster.html"

GRAFANA_PASSWORD = f"{FOLDER}/grafana.password"
PROVISIONING = f"{FOLDER}/grafana"
"""Grafana's folder of data sources and dashboards (its docs: provisioning)."""

DASHBOARDS = "/usr/local/share/hpcstate/dashboards"
"""Grafana's dashboards, a file of JSON each."""
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
GPUS = Watcher("hpcstate-gpu-exporter", ("python3-prometheus-client",), 9343)
DCGM = Watcher("nvidia-dcgm-exporter", ("datacenter-gpu-manager-exporter",), 9400)
"""NVIDIA's, of its repository: the package depends on DCGM's library, which runs within it."""

GRAFANA = Watcher("grafana-server", ("grafana",), 3000)
"""Grafana's own package, of its repository."""

ALL = (SERVER, ALERTS, NODE, PROCESS, DATABASE, SLURM, JOBS, GPUS, DCGM, GRAFANA)
OURS = (SLURM, JOBS, GPUS)
"""Those whose units and programs are ours."""

PEOPLES = (SERVER, ALERTS, GRAFANA)
"""Those that people look at."""

FOREIGN = (DCGM, GRAFANA)
"""Those whose packages are no Debian's: their repository stands in the file."""

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
        *_of_gpus(cluster, node),
        *((SLURM,) if controls else ()),
        *((DATABASE,) if controls and cluster.accounting.on else ()),
        *((ALERTS, SERVER) if controls else ()),
        *((GRAFANA,) if controls and cluster.monitoring.grafana else ()),
    )


def _of_gpus(cluster: Cluster, node: Node) -> tuple[Watcher, ...]:
    """What tells of the node's GPUs, where the file asks for it and the node has some."""
    if not cluster.monitoring.gpus or not (real_gpus(node) or simulated_gpus(node)):
        return ()
    return (GPUS, DCGM) if real_gpus(node) and cluster.monitoring.dcgm else (GPUS,)


def real_gpus(node: Node) -> int:
    """How many GPUs the file passes through to ``node``; one that is split by MIG is one."""
    return sum(device.device_type == "gpu" for device in node.passthrough)


def simulated_gpus(node: Node) -> int:
    """How many GPUs of ``node`` are plain files."""
    return node.simulated_gpus.count if node.simulated_gpus else 0


def repository(cluster: Cluster, watcher: Watcher) -> PackageSource | None:
    """Where the packages of ``watcher`` come from; None for Debian's."""
    return {DCGM: cluster.monitoring.dcgm, GRAFANA: cluster.monitoring.grafana}.get(watcher)


def source_paths(watcher: Watcher) -> tuple[str, str, str]:
    """The files by which apt knows the repository of one of FOREIGN: its source, its key, which of its
    packages may come from there."""
    name = f"hpcstate-{watcher.packages[0]}"
    return (
        f"/etc/apt/sources.list.d/{name}.sources",
        f"/etc/apt/keyrings/{name}.asc",
        f"/etc/apt/preferences.d/{name}",
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
    people = tuple(watcher.port for watcher in PEOPLES if watcher in there)
    asked = tuple(watcher.port for watcher in there if watcher.outside and watcher not in PEOPLES)
    allowed = (str(cluster.network.gateway), *map(str, cluster.monitoring.allow_from))
    return {
        **({asked: (str(cluster.controller.address),)} if asked else {}),
        **({people: allowed} if people else {}),
    }
