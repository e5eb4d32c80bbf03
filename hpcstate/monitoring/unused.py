"""What another file brought to a node and this one does not: nothing that watches is left behind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places
from hpcstate.monitoring.files import module_path
from hpcstate.monitoring.foreign import DASHBOARD_NAMES, GRAFANA_DATA, dashboard_path, dashboards
from hpcstate.monitoring.places import Watcher, watchers
from hpcstate.monitoring.units import MODULES, drop_in


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
        **{watcher: (module_path(module),) for watcher, module in MODULES.items()},
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
    found += [path for name in DASHBOARD_NAMES if (path := dashboard_path(name)) not in kept]
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
