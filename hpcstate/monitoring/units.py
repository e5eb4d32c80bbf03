"""How systemd runs what watches a cluster: drop-ins for Debian's units, and units that are ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places
from hpcstate.monitoring.places import Watcher, watchers
from hpcstate.render import of_site, render

UNITS_WATCHED = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "mariadb",
    "munge",
    "chrony",
    "nftables",
    "ssh",
    "nfs-server",
    *(watcher.unit for watcher in places.ALL),
)
"""The services whose state node exporter tells."""

MEMORY_MB: Mapping[Watcher, int] = {
    places.NODE: 96,
    places.PROCESS: 64,
    places.SLURM: 192,
    places.JOBS: 96,
    places.DATABASE: 64,
    places.ALERTS: 128,
    # nvidia-smi and journalctl run within.
    places.GPUS: 256,
    places.DCGM: 1024,
    places.GRAFANA: 1024,
}
"""What each may take before the kernel ends it: a leak must not become the node's. They are ended first where
memory is short (OOMScoreAdjust)."""

COLLECT_PERCENT = 50
"""By how much the memory of Debian's Go programs grows before they collect what is unused (GOGC; runtime's
documentation, 100 there). Measured idle: 12 MiB less on the controller, 4 on a compute node, and no more
processor time with one thread for those that only answer (docs/monitoring.md)."""

SERVER_SHARE = 4
"""Prometheus may take a quarter of the controller's memory."""

_DESCRIPTIONS: Mapping[Watcher, str] = {
    places.SLURM: "Metrics of Slurm for Prometheus",
    places.JOBS: "Metrics of the jobs on this node for Prometheus",
    places.GPUS: "Metrics of the GPUs of this node for Prometheus",
}

MODULES: Mapping[Watcher, str] = {
    places.SLURM: "slurm_exporter",
    places.JOBS: "job_exporter",
    places.GPUS: "gpu_exporter",
}
"""The module of hpcstate.monitoring that each of OURS is."""


def drop_in(watcher: Watcher) -> str:
    """The path of our drop-in for Debian's unit, or of the unit that is ours."""
    if watcher in places.OURS:
        return f"/etc/systemd/system/{watcher.unit}.service"
    return f"/etc/systemd/system/{watcher.unit}.service.d/hpcstate.conf"


@of_site
def unit_files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content of what systemd is told of them. Before the packages are installed, which start what
    they bring: it listens nowhere else by then."""
    return {
        drop_in(watcher): render(
            f"monitoring/{'unit' if watcher in places.OURS else 'drop-in'}.conf.j2",
            watcher=watcher,
            command=_command(cluster, node, watcher),
            memory_mb=_memory_mb(cluster, watcher),
            before=_before(watcher),
            mounts="/srv/hpcstate" if watcher in (places.SERVER, places.ALERTS) else "",
            slurm=watcher is places.SLURM,
            user=_user(cluster, watcher),
            environment=_environment(cluster, watcher),
            gpus=watcher is places.GPUS,
            # Its package lets it write to /var/dcgm-exporter.log, which nothing rotates.
            journal=watcher is places.DCGM,
            description=_DESCRIPTIONS.get(watcher, ""),
            processors=2 if watcher in (places.SERVER, *places.FOREIGN) else 1,
            collect=0 if watcher in places.FOREIGN else COLLECT_PERCENT,
        )
        for watcher in watchers(cluster, node)
    }


def count_unit(watcher: Watcher) -> str:
    """The command that makes a new unit file count. One that runs by the old one starts anew; one that does
    not run is started later, and may not be installed yet."""
    unit = f"{watcher.unit}.service"
    restart = f"! systemctl --quiet is-active {unit} || systemctl restart {unit}"
    return f"systemctl daemon-reload && {{ {restart}; }}"


def _user(cluster: Cluster, watcher: Watcher) -> str:
    """As whom a program of ours runs. PrivateData hides what others do from everybody but Slurm's own user
    (slurm.conf(5))."""
    given = {key.lower(): value for key, value in (cluster.slurm.parameters if cluster.slurm else {}).items()}
    hidden = "privatedata" in given and watcher is places.SLURM
    return given.get("slurmuser", "slurm") if hidden else "prometheus"


def _memory_mb(cluster: Cluster, watcher: Watcher) -> int:
    if watcher is places.SERVER:
        return max(256, cluster.controller.memory_mb // SERVER_SHARE)
    return MEMORY_MB[watcher]


def _before(watcher: Watcher) -> str:
    """The folder that it writes to, made for it."""
    return {places.SERVER: places.DATA, places.ALERTS: places.ALERTS_DATA}.get(watcher, "")


def _command(cluster: Cluster, node: Node, watcher: Watcher) -> tuple[str, ...]:
    """The words of ExecStart; none needs quotes."""
    settings = cluster.monitoring
    at = f"{node.address if watcher.outside else '127.0.0.1'}:{watcher.port}"
    people = f"{places.listen(cluster)}:{watcher.port}"
    if watcher is places.NODE:
        units = "|".join(UNITS_WATCHED)
        return (
            "/usr/bin/prometheus-node-exporter",
            f"--web.listen-address={at}",
            f"--web.config.file={places.WEB}",
            "--collector.systemd",
            f"--collector.systemd.unit-include=({units})[.]service",
            *(f"--no-collector.{name}" for name in ("arp", "bonding", "ipvs", "schedstat", "softnet", "zfs")),
        )
    if watcher is places.PROCESS:
        return (
            "/usr/bin/prometheus-process-exporter",
            f"-config.path={places.PROCESSES}",
            f"-web.listen-address={at}",
            f"-web.config.file={places.WEB}",
            # Of each thread its own metrics would be most of them.
            "-threads=false",
        )
    if watcher is places.DATABASE:
        return (
            "/usr/bin/prometheus-mysqld-exporter",
            f"--config.my-cnf={places.MYSQLD}",
            f"--web.listen-address={at}",
            f"--web.config.file={places.WEB}",
            # There is no replication, and it would need another right.
            "--no-collect.slave_status",
        )
    if watcher is places.ALERTS:
        return (
            "/usr/bin/prometheus-alertmanager",
            f"--config.file={places.ALERTMANAGER}",
            f"--storage.path={places.ALERTS_DATA}",
            f"--web.listen-address={people}",
            f"--web.external-url=https://{people}/",
            f"--web.config.file={places.WEB_PEOPLE}",
            # Its gossip would listen on 0.0.0.0:9094.
            "--cluster.listen-address=",
        )
    if watcher is places.SERVER:
        return (
            "/usr/bin/prometheus",
            f"--config.file={places.PROMETHEUS}",
            f"--storage.tsdb.path={places.DATA}",
            f"--storage.tsdb.retention.time={settings.retention_days}d",
            f"--storage.tsdb.retention.size={settings.retention_gb}GB",
            f"--web.listen-address={people}",
            f"--web.external-url=https://{people}/",
            f"--web.config.file={places.WEB_PEOPLE}",
            # Else it has Debian's examples there.
            *((f"--web.console.templates={places.CONSOLES}",) if settings.page else ()),
        )
    if watcher is places.DCGM:
        return ("/usr/bin/dcgm-exporter", f"--collectors={places.DCGM_FIELDS}", f"--address={at}")
    if watcher is places.GRAFANA:
        # As its package has it: the environment says the rest.
        return ()
    host, port = at.split(":")
    return (
        "/usr/bin/python3",
        # Nothing of a user's is imported; of a folder it starts __main__.py all the same.
        "-I",
        places.EXPORTERS,
        MODULES[watcher],
        *((_of_gpus(cluster, node),) if watcher is places.GPUS else ()),
        f"--address={host}",
        f"--port={port}",
        f"--certificate={places.CERTIFICATE}",
        f"--key={places.KEY}",
        f"--authority={places.AUTHORITY}",
        # A scrape may come a little early.
        f"--interval={settings.interval_s - 1}",
    )


def _of_gpus(cluster: Cluster, node: Node) -> str:
    """What our exporter tells of (hpcstate.monitoring.gpu_exporter)."""
    if not places.real_gpus(node):
        return "simulated"
    return "xids" if cluster.monitoring.dcgm else "all"


def _environment(cluster: Cluster, watcher: Watcher) -> Mapping[str, str]:
    """What a program is told by its environment; no value has a blank or a quote."""
    if watcher is places.DCGM:
        return {"DCGM_EXPORTER_WEB_CONFIG_FILE": places.WEB}
    if watcher is not places.GRAFANA:
        return {}
    at, port = places.listen(cluster), places.GRAFANA.port
    return {
        "GF_SERVER_PROTOCOL": "https",
        "GF_SERVER_HTTP_ADDR": at,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_SERVER_ROOT_URL": f"https://{at}:{port}/",
        "GF_SERVER_CERT_FILE": places.CERTIFICATE,
        "GF_SERVER_CERT_KEY": places.KEY,
        "GF_PATHS_PROVISIONING": places.PROVISIONING,
        # It counts when Grafana makes its database, at its first start.
        "GF_SECURITY_ADMIN_PASSWORD__FILE": places.GRAFANA_PASSWORD,
        "GF_SECURITY_COOKIE_SECURE": "true",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_AUTH_ANONYMOUS_ENABLED": "false",
        "GF_USERS_ALLOW_SIGN_UP": "false",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_METRICS_ENABLED": "false",
    }
