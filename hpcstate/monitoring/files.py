"""The files of what watches a cluster, but for those that systemd and apt read: model and credentials in,
text out; nothing where it is off. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places
from hpcstate.monitoring.foreign import dashboards, grafana_files
from hpcstate.monitoring.known_metrics import static_metrics
from hpcstate.monitoring.node_file import MonitoringFile
from hpcstate.monitoring.page import ChartLibrary, page
from hpcstate.monitoring.places import Watcher, watchers
from hpcstate.monitoring.secrets import Credentials
from hpcstate.monitoring.server import alertmanager, prometheus, rules
from hpcstate.monitoring.units import MODULES
from hpcstate.render import of_site, render


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
        found += grafana_files(cluster, known)
    return tuple(found)


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
        *(_program(module_path(MODULES[each]), MODULES[each], (each.unit,)) for each in ours),
        _program(module_path("exporter"), "exporter", shared),
        _program(places.EXPORTERS_START, "start", shared),
    ]


def _program(path: str, name: str, units: tuple[str, ...]) -> MonitoringFile:
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return MonitoringFile(path, text, restarts=units)


def module_path(name: str) -> str:
    """Where a module of this package is on nodes."""
    return f"{places.EXPORTERS}/hpcstate/monitoring/{name}.py"
