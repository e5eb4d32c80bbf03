"""What watches a host: Prometheus and its exporters, Alertmanager; and that nothing of it is left."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from pathlib import PurePosixPath

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.monitoring import DatabaseGrants
from facts.text_files import TextFiles
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
        "settings, certificates and passwords, and that they run; with it off nothing of them",
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
    files: Sequence[str], folders: Sequence[str], units: Sequence[str]
) -> Generator[PyinfraCommand, None, None]:
    """``units`` run no more, nor at the next boot; none of ``files`` is there, and where one was, ``folders``
    go too, and the exporter's user of MariaDB."""
    present = host.get_fact(TextFiles, paths=tuple(files))
    if not present:
        host.noop("nothing watches this host")
        return
    difference.show_removed(present)
    names = " ".join(map(shlex.quote, units))
    # One that is not installed has no file to be disabled.
    yield StringCommand(
        f'for unit in {names}; do ! systemctl --quiet cat "$unit" >/dev/null 2>&1 || '
        'systemctl disable --quiet --now "$unit"; done'
    )
    drop = f"DROP USER IF EXISTS `{USER}`@`localhost`"
    yield StringCommand(f"! systemctl --quiet is-active mariadb || mariadb --execute {shlex.quote(drop)}")
    yield StringCommand("rm -rf", *map(shlex.quote, folders))
    yield StringCommand("rm -f", *map(shlex.quote, files), "&& systemctl daemon-reload")
    made = sorted({str(PurePosixPath(path).parent) for path in files if ".service.d/" in path})
    if made:
        yield StringCommand("rmdir --ignore-fail-on-non-empty", *map(shlex.quote, made), "2>/dev/null || :")
