"""What records the jobs of a cluster: MariaDB and slurmdbd on its controller."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path, PurePosixPath

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.accounting import Accounting, Tables
from hpcstate import programs
from hpcstate.node.data_volume import TOP
from hpcstate.node.managed import Managed
from hpcstate.probe.accounting import UNITS, AccountingState
from hpcstate.slurm.accounting import (
    APPLIED,
    CLIENT_CONF,
    CLUSTERNAME,
    DATA,
    DATABASE,
    MARIADB_CONF,
    SLURMDBD_CONF,
    USER,
    question,
)
from hpcstate.slurm.upgrade import step
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host, write_file
from operations.util.difference import FileWritten

PROGRAM = Path(__file__).with_name("accounting.sh")

FRESH = "/var/lib/hpcstate/accounting/new"
"""New files, before they are installed."""

DUMPS = f"{TOP}/backup/conversion"
"""Where the database is dumped before slurmdbd converts its tables."""

WAIT_S = 300
"""For how long a daemon is waited for: the first start of slurmdbd makes its tables, that of a new version
converts them."""

PLACES: Mapping[str, tuple[str, str]] = {
    MARIADB_CONF: ("644", "root:root"),
    SLURMDBD_CONF: ("600", f"{USER}:{USER}"),
    CLIENT_CONF: ("644", "root:root"),
}
"""Mode and owner of each file. slurmdbd stops at any other mode of its own."""

GRANTS = (
    f"GRANT USAGE ON *.* TO `{USER}`@`localhost` IDENTIFIED VIA unix_socket",
    f"GRANT ALL PRIVILEGES ON `{DATABASE}`.* TO `{USER}`@`localhost`",
)
"""The rights of slurmdbd's user, in MariaDB's words (11.8, SHOW GRANTS)."""

MANAGED = (
    Managed(
        "accounting.database",
        "MariaDB runs with its settings, and starts at boot; it has the database, and slurmdbd's user",
        f"mariadb.service, {MARIADB_CONF}, `{DATABASE}`",
        "systemctl show, digests, SHOW DATABASES, SHOW GRANTS",
        "mended",
    ),
    Managed(
        "accounting.daemon",
        "slurmdbd runs with its configuration, answers, and knows the cluster",
        f"slurmdbd.service, {SLURMDBD_CONF}",
        "systemctl show, digest, mode and owner, `sacctmgr ping`",
        "mended",
    ),
)


@operation()
def state(cluster: str, files: Mapping[str, str]) -> Generator[PyinfraCommand, None, None]:
    """The controller records the jobs of the Slurm cluster named ``cluster``: MariaDB runs with its file of
    ``files`` (path to content), has the database and the user of slurmdbd; slurmdbd runs with its own,
    answers, and knows the cluster. slurmctld may be told of it then.

    Tables of an older Slurm are dumped and converted before slurmdbd starts; those of a newer one end the
    run for this host. MariaDB comes first, and each daemon is restarted only where its file is another than
    it was started with.
    """
    found = host.get_fact(Accounting, **question(cluster, files))
    there = [unit for unit, is_ in found["units"].items() if is_["installed"]]
    if absent := [unit for unit in UNITS if unit not in there]:
        yield stop_host(
            f"not installed: {' and '.join(absent)}. The image of this node lacks it "
            "(packer/hpc-base/image.yaml). Or turn it off: `accounting: {enabled: false}`"
        )
        return
    difference.show(
        FileWritten(path, files[path], mode)
        for path, (mode, _) in PLACES.items()
        if not _is_right(found, path, files)
    )
    done = True
    if not _has_database(found, files):
        done = False
        yield from _stage(found, files, MARIADB_CONF)
        yield _command("database", cluster)
    if not _has_daemon(found, cluster, files):
        done = False
        yield from _stage(found, files, SLURMDBD_CONF, CLIENT_CONF)
        if not found["units"]["slurmdbd"]["active"]:
            # It reads its own configuration to find the tables.
            yield _command("configure", cluster)
            due = step(host.get_fact(Tables, database=DATABASE, user=USER))
            if due.kind == "refuse":
                yield stop_host(due.reason)
                return
            if due.kind == "convert":
                yield _command("convert", cluster, old=due.old, new=due.new)
        yield _command("daemon", cluster)
    if done:
        host.noop("slurmdbd answers, and has its database")


@operation()
def off(cluster: str) -> Generator[PyinfraCommand, None, None]:
    """Neither slurmdbd nor MariaDB runs or starts at boot, and their files are gone. The database stays.

    For a controller whose slurmctld no longer records jobs there.
    """
    found = host.get_fact(Accounting, **question(cluster, PLACES))
    on = [unit for unit, is_ in found["units"].items() if is_["active"] or is_["enabled"]]
    if not on and not found["files"] and not found["applied"]:
        host.noop("neither slurmdbd nor its database is on")
        return
    yield _command("off", cluster)


def _has_database(found: AccountingState, files: Mapping[str, str]) -> bool:
    return (
        _runs_with(found, "mariadb", MARIADB_CONF, files)
        and DATABASE in found["databases"]
        and set(GRANTS) <= set(found["grants"])
    )


def _has_daemon(found: AccountingState, cluster: str, files: Mapping[str, str]) -> bool:
    return (
        _runs_with(found, "slurmdbd", SLURMDBD_CONF, files)
        and _is_right(found, CLIENT_CONF, files)
        and found["answers"]
        and found["cluster_id"] > 0
        and found["state"] in ("", f"{cluster}|{found['cluster_id']}")
    )


def _runs_with(found: AccountingState, unit: str, path: str, files: Mapping[str, str]) -> bool:
    """Whether ``unit`` runs, also at the next boot, and was started with the file at ``path``."""
    is_ = found["units"][unit]
    return (
        is_["active"]
        and is_["enabled"]
        and _is_right(found, path, files)
        and found["applied"].get(PurePosixPath(path).name) == _digest(files[path])
    )


def _is_right(found: AccountingState, path: str, files: Mapping[str, str]) -> bool:
    there = found["files"].get(path)
    return there is not None and (there["sha256"], there["mode"], there["owner"]) == (
        _digest(files[path]),
        *PLACES[path],
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stage(
    found: AccountingState, files: Mapping[str, str], *paths: str
) -> Generator[PyinfraCommand, None, None]:
    for path in paths:
        if not _is_right(found, path, files):
            yield write_file(f"{FRESH}/{PurePosixPath(path).name}", files[path])


def _command(action: str, cluster: str, *, old: int = 0, new: int = 0) -> StringCommand:
    return StringCommand(
        programs.command(
            programs.REPLACE,
            PROGRAM,
            arguments=[action, *((old, new) if new else ())],
            database=DATABASE,
            user=USER,
            cluster=cluster,
            mariadb_conf=MARIADB_CONF,
            slurmdbd_conf=SLURMDBD_CONF,
            client_conf=CLIENT_CONF,
            data=DATA,
            dumps=DUMPS,
            fresh=FRESH,
            applied=APPLIED,
            clustername=CLUSTERNAME,
            wait_s=WAIT_S,
        )
    )
