"""What Prometheus and Alertmanager are told: whom to ask, by which rules to judge the answers, and who is
told of alerts. Pure.

Prometheus' files name each other by paths below their own folder, so that promtool and amtool read them the
same anywhere (hpcstate.judge.watching).
"""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate.model import Cluster, Node
from hpcstate.model.backup import Every
from hpcstate.monitoring import places
from hpcstate.monitoring.places import Watcher, watchers
from hpcstate.render import of_site, render

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
