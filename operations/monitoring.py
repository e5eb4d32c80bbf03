"""What watches a host: Prometheus and its exporters, Alertmanager; and that nothing of it is left."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.monitoring import DatabaseGrants
from facts.text_files import TextFiles
from hpcstate import programs
from hpcstate.monitoring import places
from hpcstate.node.managed import Managed
from operations.util import difference
from operations.util.arguments import operation

USER = "prometheus"
GRANTS = (f"GRANT PROCESS, BINLOG MONITOR ON *.* TO `{USER}`@`localhost` IDENTIFIED VIA unix_socket",)
"""The rights of the exporter's user, in MariaDB's words (11.8, SHOW GRANTS): global status and what each
thread does, no table of anybody. It is who the kernel says it is: there is no password."""

MANAGED = (
    Managed(
        "monitoring",
        "with `monitoring` on: Prometheus and Alertmanager on the controller, exporters on all nodes, their "
        "settings, certificates and passwords, and that they run; dashboards, Grafana and DCGM with their "
        "repositories where the file has them; with it off nothing of them",
        f"{places.FOLDER}, drop-ins of their units, {places.TEXTFILES}, {places.DATA}",
        "digests, modes, systemctl, SHOW GRANTS",
        "mended",
        "a file with monitoring on",
    ),
)


@operation()
def database_user() -> Generator[PyinfraCommand, None, None]:
    """The exporter's user of MariaDB is there, with its rights and no others."""
    found = host.get_fact(DatabaseGrants, user=USER)
    if found == list(GRANTS):
        host.noop(f"MariaDB lets {USER} in")
        return
    statements = [f"DROP USER IF EXISTS `{USER}`@`localhost`", *GRANTS]
    yield StringCommand(f"mariadb --execute {shlex.quote('; '.join(statements))}")


@operation()
def off(
    files: Sequence[str], folders: Sequence[str], units: Sequence[str], database: bool = True
) -> Generator[PyinfraCommand, None, None]:
    """``units`` run no more, nor at the next boot; none of ``files`` is there, and where one was, ``folders``
    go too, and, with ``database``, the exporter's user of MariaDB."""
    present = host.get_fact(TextFiles, paths=tuple(files))
    if not present:
        host.noop("nothing watches this host")
        return
    difference.show_removed(present)
    yield StringCommand(
        programs.command(
            Path(__file__).with_name("monitoring_off.sh"),
            arguments=files,
            drop=f"DROP USER IF EXISTS `{USER}`@`localhost`" if database else "",
            units=" ".join(units),
            folders=" ".join(folders),
        )
    )
