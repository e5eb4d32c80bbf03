"""What watches a Slurm cluster: exporters on all nodes, Prometheus and Alertmanager on the controller.

    pyinfra inventories/gpu.py deploys/monitoring.py

Behind what jobs need: where it fails on a node, jobs run all the same. Units come before the packages, which
start what they bring: nothing listens wider for a moment. Never in an image.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from deploys.util.monitoring_files import charts, known
from deploys.util.relay import relay_password
from hpcstate.monitoring import files, foreign, places, units, unused
from hpcstate.monitoring.node_file import MonitoringFile
from operations import monitoring, packages, services, text_files
from operations.text_files import TextFile

config.SUDO = True

RECORD = "/etc/hpcstate/packages-monitoring"
"""The packages that were installed for it: they go with it."""


def _then(file: MonitoringFile) -> str:
    """What has to follow a new content. Units that do not run yet are started later; one whose new file is
    refused goes on with the old one."""
    if file.then:
        return file.then
    if file.restarts:
        return f"systemctl try-restart {' '.join(file.restarts)}"
    if not file.reloads:
        return ""
    judged = f"{file.judge} >&2 && " if file.judge else ""
    return f"{judged}systemctl try-reload-or-restart {' '.join(file.reloads)}"


if not is_build() and target().cluster.kind == "hpc":
    this = target()
    there = places.watchers(this.cluster, this.node)
    of_systemd = units.unit_files(this.cluster, this.node)
    if there:
        text_files.put(
            name="How systemd runs what watches",
            files=[
                TextFile(units.drop_in(each), of_systemd[units.drop_in(each)], then=units.count_unit(each))
                for each in there
            ],
        )
        if sources := foreign.sources(this.cluster, this.node, packages.APT_GET):
            text_files.put(
                name="Repositories of what watches",
                files=[TextFile(each.path, each.content, then=_then(each)) for each in sources],
            )
    packages.added(
        name="Packages of what watches", wanted=places.packages(this.cluster, this.node), record=RECORD
    )
    if there:
        library = charts(this.cluster) if places.SERVER in there else None
        found = files.files(this.cluster, this.node, known(this.cluster), library)
        if places.DATABASE in there:
            monitoring.database_user(name="MariaDB lets its exporter in")
        texts = [
            TextFile(
                file.path,
                file.content,
                file.mode or ("640" if file.secret else "644"),
                _then(file),
                places.OWNER if file.secret else TextFile.owner,
            )
            for file in found
        ]
        if places.ALERTS in there and (line := relay_password(this.cluster)):
            texts.append(TextFile(places.MAIL_PASSWORD, f"{line}\n", "640", owner=places.OWNER))
        text_files.put(name="What watches this node", files=texts)
        services.state(
            name="What watches runs",
            on=(*(f"{watcher.unit}.service" for watcher in there), *places.COLLECTORS_ON),
            off=places.COLLECTORS_OFF,
        )
    left = unused.not_wanted(this.cluster, this.node)
    monitoring.off(
        name="Nothing watches that the file has not",
        files=left.files,
        folders=left.folders,
        units=left.units,
        database=places.DATABASE not in there,
    )
    for watcher, left in unused.not_wanted_foreign(this.cluster, this.node).items():
        monitoring.off(
            name=f"No {watcher.packages[0]} that the file has not",
            files=left.files,
            folders=left.folders,
            units=left.units,
            database=False,
        )
