"""What is not Debian's: the repositories of DCGM and Grafana, Grafana's settings and dashboards. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places
from hpcstate.monitoring.node_file import MonitoringFile
from hpcstate.monitoring.secrets import Credentials
from hpcstate.paths import TEMPLATES
from hpcstate.render import of_site, render

DASHBOARD_NAMES = ("overview", "nodes", "slurm", "gpu", "job", "storage")

GRAFANA_DATA = "/var/lib/grafana"
"""The database of Grafana's package; dashboards that people made lie in it."""


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


def dashboards(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of Grafana's dashboards: files, made by hpcstate.monitoring.dashboards with
    Grafana's SDK. That of GPUs is for a cluster that tells of them."""
    if not cluster.monitoring.dashboards:
        return {}
    wanted = [name for name in DASHBOARD_NAMES if name != "gpu" or cluster.monitoring.gpus]
    folder = TEMPLATES / "monitoring" / "dashboards"
    return {dashboard_path(name): (folder / f"{name}.json").read_text(encoding="utf-8") for name in wanted}


def dashboard_path(name: str) -> str:
    return f"{places.DASHBOARDS}/hpcstate-{name}.json"


def grafana_files(cluster: Cluster, known: Credentials) -> list[MonitoringFile]:
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
