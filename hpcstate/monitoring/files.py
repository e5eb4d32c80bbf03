"""The files of what watches a cluster. Pure: model and credentials in, text out; nothing where it is off.

Prometheus' files name each other by paths below their own folder, so that promtool and amtool read them the
same anywhere (hpcstate.judge.monitoring).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.model import Cluster, Node
from hpcstate.model.backup import Every
from hpcstate.monitoring import places
from hpcstate.monitoring.page import ChartLibrary, page
from hpcstate.monitoring.places import Watcher, watchers
from hpcstate.monitoring.secrets import Credentials
from hpcstate.paths import TEMPLATES
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

_DESCRIPTIONS: Mapping[Watcher, str] = {
    places.SLURM: "Metrics of Slurm for Prometheus",
    places.JOBS: "Metrics of the jobs on this node for Prometheus",
    places.GPUS: "Metrics of the GPUs of this node for Prometheus",
}

_MODULES: Mapping[Watcher, str] = {
    places.SLURM: "slurm_exporter",
    places.JOBS: "job_exporter",
    places.GPUS: "gpu_exporter",
}
"""The module of hpcstate.monitoring that each of OURS is."""

JOB_NAMES: Mapping[Watcher, str] = {
    places.SERVER: "prometheus",
    places.ALERTS: "alertmanager",
    places.NODE: "node",
    places.PROCESS: "process",
    places.DATABASE: "mysqld",
    places.SLURM: "slurm",
    places.JOBS: "cgroup",
    places.GPUS: "gpu",
    places.DCGM: "dcgm",
}
"""What Prometheus calls each that it asks: the label ``job`` of its metrics. Grafana's own would be for
everybody who reaches its port."""

_PERIODS_S: Mapping[Every, int] = {"hourly": 3600, "daily": 86400, "weekly": 7 * 86400}
"""A backup is too old, when it is older than two of them, and an hour."""

GRAFANA_DATA = "/var/lib/grafana"
"""The database of Grafana's package; dashboards that people made lie in it."""

SERVER_SHARE = 4
"""Prometheus may take a quarter of the controller's memory."""


@dataclass(frozen=True)
class MonitoringFile:
    """A file on a node: ``secret`` ones are for root and the group of the exporters. ``restarts`` are the
    units that have to be restarted where it changes, ``reloads`` those that read it again.
    ``judge`` are words that judge it on the node first; ``then`` is a command of another kind that
    follows."""

    path: str
    content: str
    secret: bool = False
    mode: str = ""
    restarts: tuple[str, ...] = ()
    reloads: tuple[str, ...] = ()
    judge: str = ""
    then: str = ""


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
        _MODULES[watcher],
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


@of_site
def sources(cluster: Cluster, node: Node, apt_get: str) -> tuple[MonitoringFile, ...]:
    """The files by which apt knows the repositories of ``node`` that are not Debian's. ``apt_get`` are the
    words that start apt-get."""
    found: list[MonitoringFile] = []
    for watcher in places.watchers(cluster, node):
        if (source := places.repository(cluster, watcher)) is None:
            continue
        path, key, preferences = places.source_paths(watcher)
        package = watcher.packages[0]
        # One that is not there yet is none that could be upgraded: that is done later.
        then = (
            f"{apt_get} update >&2 && "
            f"{apt_get} install --only-upgrade --allow-downgrades {package}={source.version} >&2"
        )
        found += [
            MonitoringFile(key, source.key, then=then),
            MonitoringFile(path, render("monitoring/foreign.sources.j2", source=source, key=key), then=then),
            MonitoringFile(
                preferences,
                render(
                    "monitoring/preferences.j2",
                    package=package,
                    version=source.version,
                    host=source.url.partition("://")[2].partition("/")[0].partition(":")[0],
                    along="datacenter-gpu-manager-4-*" if watcher is places.DCGM else "",
                ),
                then=then,
            ),
        ]
        if watcher is places.DCGM:
            # Whoever can connect to its port could change the GPUs; dcgm-exporter has an engine of its own.
            text = render("monitoring/host-engine.conf.j2")
            found.append(MonitoringFile(places.HOST_ENGINE, text, then="systemctl daemon-reload"))
    return tuple(found)


@of_site
def files(
    cluster: Cluster, node: Node, known: Credentials, charts: ChartLibrary | None = None
) -> tuple[MonitoringFile, ...]:
    """The files of ``node``, but for those that systemd reads. ``charts`` is for the cluster's page."""
    there = watchers(cluster, node)
    if not there:
        return ()
    own = known.nodes[node.name]
    hashes = {places.SCRAPER: known.hashes[places.SCRAPER]}
    asked = tuple(watcher.unit for watcher in there)
    found = [
        MonitoringFile(places.AUTHORITY, known.authority, restarts=asked),
        MonitoringFile(places.CERTIFICATE, own.certificate, restarts=asked),
        MonitoringFile(places.KEY, own.key, secret=True, restarts=asked),
        # It is read again at each request (exporter-toolkit).
        MonitoringFile(places.WEB, _web(hashes), secret=True),
        MonitoringFile(
            places.PROCESSES, render("monitoring/processes.yml.j2"), restarts=(places.PROCESS.unit,)
        ),
        MonitoringFile(
            places.STATIC,
            static_metrics(cluster, node, own.not_after, known.ends if node is cluster.controller else None),
        ),
    ]
    found += programs(there)
    if places.DATABASE in there:
        found.append(
            MonitoringFile(
                places.MYSQLD, render("monitoring/mysqld.cnf.j2"), restarts=(places.DATABASE.unit,)
            )
        )
    if places.DCGM in there:
        found.append(
            MonitoringFile(places.DCGM_FIELDS, render("monitoring/dcgm.csv.j2"), restarts=(places.DCGM.unit,))
        )
    if places.SERVER in there:
        found += _server_files(cluster, known)
        found += [MonitoringFile(path, text) for path, text in dashboards(cluster).items()]
        if cluster.monitoring.page:
            found.append(MonitoringFile(places.PAGE, page(cluster, charts)))
    if places.GRAFANA in there:
        found += _grafana_files(cluster, known)
    return tuple(found)


DASHBOARD_NAMES = ("overview", "nodes", "slurm", "gpu", "job", "storage")


def dashboards(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of Grafana's dashboards: files, made by hpcstate.monitoring.dashboards with
    Grafana's SDK. That of GPUs is for a cluster that tells of them."""
    if not cluster.monitoring.dashboards:
        return {}
    wanted = [name for name in DASHBOARD_NAMES if name != "gpu" or cluster.monitoring.gpus]
    folder = TEMPLATES / "monitoring" / "dashboards"
    return {_dashboard(name): (folder / f"{name}.json").read_text(encoding="utf-8") for name in wanted}


def _dashboard(name: str) -> str:
    return f"{places.DASHBOARDS}/hpcstate-{name}.json"


def _grafana_files(cluster: Cluster, known: Credentials) -> list[MonitoringFile]:
    unit = (places.GRAFANA.unit,)
    return [
        MonitoringFile(places.GRAFANA_PASSWORD, f"{known.grafana_password}\n", secret=True),
        MonitoringFile(
            f"{places.PROVISIONING}/datasources/hpcstate.yml",
            render(
                "monitoring/grafana-datasource.yml.j2",
                server=f"{places.listen(cluster)}:{places.SERVER.port}",
                controller=cluster.controller.name,
                user=places.SCRAPER,
                password=places.SCRAPE_PASSWORD,
                authority=places.AUTHORITY,
                interval_s=cluster.monitoring.interval_s,
            ),
            restarts=unit,
        ),
        MonitoringFile(
            f"{places.PROVISIONING}/dashboards/hpcstate.yml",
            render("monitoring/grafana-dashboards.yml.j2", folder=places.DASHBOARDS, cluster=cluster.name),
            restarts=unit,
        ),
    ]


def _server_files(cluster: Cluster, known: Credentials) -> list[MonitoringFile]:
    server, alerts = (places.SERVER.unit,), (places.ALERTS.unit,)
    return [
        MonitoringFile(places.WEB_PEOPLE, _web(known.hashes), secret=True),
        MonitoringFile(places.SCRAPE_PASSWORD, f"{known.scrape_password}\n", secret=True),
        MonitoringFile(places.PROMETHEUS, prometheus(cluster), reloads=server),
        *(MonitoringFile(path, text, reloads=server) for path, text in rules(cluster).items()),
        MonitoringFile(
            places.ALERTMANAGER,
            alertmanager(cluster),
            secret=True,
            reloads=alerts,
            judge=f"amtool check-config {places.ALERTMANAGER}",
        ),
    ]


def _web(hashes: Mapping[str, str]) -> str:
    return render(
        "monitoring/web.yml.j2", certificate="tls/node.crt", key="tls/node.key", hashes=dict(hashes)
    )


def programs(there: Sequence[Watcher]) -> list[MonitoringFile]:
    """The programs of those of OURS that are ``there``, run by Debian's own Python, and what they share."""
    ours = [watcher for watcher in places.OURS if watcher in there]
    if not ours:
        return []
    shared = tuple(watcher.unit for watcher in ours)
    return [
        *(_program(_module(_MODULES[each]), _MODULES[each], (each.unit,)) for each in ours),
        _program(_module("exporter"), "exporter", shared),
        _program(places.EXPORTERS_START, "start", shared),
    ]


def _program(path: str, name: str, units: tuple[str, ...]) -> MonitoringFile:
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return MonitoringFile(path, text, restarts=units)


def _module(name: str) -> str:
    """Where a module of this package is on nodes."""
    return f"{places.EXPORTERS}/hpcstate/monitoring/{name}.py"


def asked(cluster: Cluster, node: Node) -> tuple[Watcher, ...]:
    """Those on ``node`` that Prometheus asks."""
    return tuple(watcher for watcher in watchers(cluster, node) if watcher in JOB_NAMES)


@of_site
def prometheus(cluster: Cluster) -> str:
    """prometheus.yml: whom it asks, by the nodes of the model."""
    jobs: dict[str, list[dict[str, str]]] = {}
    for node in cluster.nodes:
        for watcher in asked(cluster, node):
            at_listen = watcher in places.PEOPLES
            host = places.listen(cluster) if at_listen else node.name if watcher.outside else "127.0.0.1"
            target = {"at": f"{host}:{watcher.port}", "node": node.name, "role": node.role}
            jobs.setdefault(JOB_NAMES[watcher], []).append(target)
    return render(
        "monitoring/prometheus.yml.j2",
        cluster=cluster,
        jobs=jobs,
        interval_s=cluster.monitoring.interval_s,
        alertmanager=f"{places.listen(cluster)}:{places.ALERTS.port}",
        controller=cluster.controller.name,
        scraper=places.SCRAPER,
        by_certificate=tuple(JOB_NAMES[watcher] for watcher in places.OURS),
        of_gpus=("gpu", "dcgm"),
        of_controller=("prometheus", "alertmanager", "mysqld", "slurm"),
    )


@of_site
def rules(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of the rules: alerts, and the names of metrics that published dashboards expect."""
    words = {
        "interval_s": cluster.monitoring.interval_s,
        "window_s": max(120, 4 * cluster.monitoring.interval_s),
        "accounting": cluster.accounting.on,
        "gpus": cluster.monitoring.gpus,
        "containers": cluster.containers.deploy,
        "backup_s": 2 * _PERIODS_S[cluster.backup.every] + 3600 if cluster.backup else 0,
    }
    return {
        f"{places.RULES}/alerts.yml": render("monitoring/alerts.yml.j2", **words),
        f"{places.RULES}/vpenso.yml": render("monitoring/vpenso.yml.j2", **words),
        f"{places.RULES}/jobs.yml": render("monitoring/jobs.yml.j2", **words),
        **(
            {f"{places.RULES}/gpus.yml": render("monitoring/gpus.yml.j2", **words)}
            if cluster.monitoring.gpus
            else {}
        ),
    }


@of_site
def alertmanager(cluster: Cluster) -> str:
    """alertmanager.yml: who is told of what."""
    return render(
        "monitoring/alertmanager.yml.j2",
        receivers=cluster.monitoring.receivers,
        mail=cluster.mail,
        password=places.MAIL_PASSWORD if cluster.mail and cluster.mail.password_file else "",
        cluster=cluster.name,
    )


def static_metrics(
    cluster: Cluster, node: Node, not_after: int, others: Mapping[str, int] | None = None
) -> str:
    """What the deploy knows of a node and no program finds out: for node exporter's textfile collector. Its
    certificate ends ``not_after``, ``others`` (by their files) when it says: in seconds since 1970."""
    simulated, real = places.simulated_gpus(node), places.real_gpus(node)
    declared = len(node.gres_types)
    ends = {places.CERTIFICATE: not_after, **(others or {})}
    values = (
        *(
            ("certificate_not_after_timestamp_seconds", f"{{file={json.dumps(file)}}}", "when it ends", end)
            for file, end in ends.items()
        ),
        ("gpus_declared", "", "GPUs that the cluster file gives to this node", declared),
        ("gpus_simulated", "", "those of them that are simulated", simulated),
        ("gpus_real", "", "GPUs that the cluster file passes through to this node", real),
    )
    lines: list[str] = []
    for metric, labels, meaning, value in values:
        full = f"hpcstate_{metric}"
        # The format takes one line of each kind for a name.
        if (kind := f"# TYPE {full} gauge") not in lines:
            lines += [f"# HELP {full} {meaning}", kind]
        lines.append(f"{full}{labels} {value}")
    return "\n".join(lines) + "\n"


def backup_metrics(taken_s: int) -> str:
    """What node exporter tells of a backup that was taken at ``taken_s``, in seconds since 1970."""
    name = "hpcstate_backup_taken_timestamp_seconds"
    return f"# HELP {name} when the last backup was taken\n# TYPE {name} gauge\n{name} {taken_s}\n"


@dataclass(frozen=True)
class Unused:
    """What must not be on a node: ``files`` that tell that it was, ``folders`` and ``units`` that go then."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    units: tuple[str, ...]


def not_wanted_foreign(cluster: Cluster, node: Node) -> Mapping[Watcher, Unused]:
    """What is not Debian's and was on ``node`` by another file. By our own files alone: a Grafana of the
    site's stays as it is, with what is in it."""
    there = watchers(cluster, node)
    folders = {places.GRAFANA: (places.PROVISIONING, GRAFANA_DATA)}
    more = {
        places.DCGM: (places.DCGM_FIELDS, places.HOST_ENGINE),
        places.GRAFANA: (places.GRAFANA_PASSWORD,),
    }
    return {
        watcher: Unused(
            (drop_in(watcher), *places.source_paths(watcher), *more[watcher]),
            folders.get(watcher, ()),
            (f"{watcher.unit}.service",),
        )
        for watcher in places.FOREIGN
        if watcher not in there
    }


def not_wanted(cluster: Cluster, node: Node) -> Unused:
    """What watched ``node`` by another file: all of it where the file has it off; what another role has, and
    what is for a database or a mail that the file has no more. Without what is not Debian's."""
    there = watchers(cluster, node)
    gone = [each for each in places.ALL if each not in there and each not in places.FOREIGN]
    own: dict[Watcher, tuple[str, ...]] = {
        places.SERVER: (places.PROMETHEUS, places.SCRAPE_PASSWORD, places.WEB_PEOPLE),
        places.ALERTS: (places.ALERTMANAGER,),
        places.PROCESS: (places.PROCESSES,),
        places.DATABASE: (places.MYSQLD,),
        **{watcher: (_module(module),) for watcher, module in _MODULES.items()},
        places.NODE: (
            places.STATIC,
            places.BACKUP,
            places.WEB,
            places.CERTIFICATE,
            places.KEY,
            places.AUTHORITY,
        ),
    }
    found = [path for watcher in gone for path in (drop_in(watcher), *own[watcher])]
    if not (cluster.mail and cluster.mail.password_file and there):
        found.append(places.MAIL_PASSWORD)
    kept = dashboards(cluster) if places.SERVER in there else {}
    found += [path for name in DASHBOARD_NAMES if (path := _dashboard(name)) not in kept]
    if not cluster.monitoring.page:
        found.append(places.PAGE)
    if not cluster.monitoring.gpus and places.SERVER in there:
        found.append(f"{places.RULES}/gpus.yml")
    folders = [
        *((places.DASHBOARDS,) if not kept else ()),
        *((places.DATA, places.RULES) if places.SERVER in gone else ()),
        *((places.ALERTS_DATA,) if places.ALERTS in gone else ()),
        *((places.FOLDER,) if places.NODE in gone else ()),
        *((places.EXPORTERS,) if set(places.OURS) <= set(gone) else ()),
    ]
    units = [f"{watcher.unit}.service" for watcher in gone]
    if places.NODE in gone:
        units += [*places.COLLECTORS_ON, *places.COLLECTORS_OFF]
    return Unused(tuple(found), tuple(folders), tuple(units))
