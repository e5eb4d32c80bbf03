"""slurmdbd.conf as a whole: what slurmdbd 24.11.5 stops at, or logs, beyond its keys and their values' types.

Read from src/slurmdbd/read_config.c (read_slurmdbd_conf), src/slurmdbd/slurmdbd.c (main) and
src/database/mysql_common.c; judged by slurmdbd with a MariaDB (tests/unit/slurm/dbd_cases.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.slurm.lint.defaults import integer, option
from hpcstate.slurm.read import Whole, number

_STOP = "slurmdbd stops"
_TYPES = ("accounting_storage/mysql", "accounting_storage/ctld_relay")
_STORAGE_OPTIONS = ("ssl_cert", "ssl_ca", "ssl_capath", "ssl_key", "ssl_cipher", "max_step_records")
_PURGES = (
    ("ArchiveEvents", "PurgeEventAfter", "PurgeEventMonths"),
    ("ArchiveJobs", "PurgeJobAfter", "PurgeJobMonths", "JobPurge"),
    ("ArchiveResvs", "PurgeResvAfter"),
    ("ArchiveSteps", "PurgeStepAfter", "PurgeStepMonths", "StepPurge"),
    ("ArchiveSuspend", "PurgeSuspendAfter", "PurgeSuspendMonths"),
    ("ArchiveTXN", "PurgeTXNAfter", "PurgeTXNMonths"),
    ("ArchiveUsage", "PurgeUsageAfter", "PurgeUsageMonths"),
)
"""What is archived, and the keys of which one must say when it is purged: nothing else starts an archive."""


def problems(whole: Whole) -> Iterator[Problem]:
    """The rules that need nothing that another file may have, then those that do."""
    yield from _host(whole)
    yield from _storage(whole)
    yield from _communication(whole)
    yield from _paths(whole)
    if not whole.complete:
        return
    if "storagetype" not in whole.values:
        hint = "write StorageType=accounting_storage/mysql"
        yield whole.problem("StorageType", f"is missing: {_STOP}", hint)
    if "dbdhost" not in whole.values:
        message = "is missing: slurmdbd logs an error and takes localhost"
        yield whole.problem("DbdHost", message, "write DbdHost=name", "warning")
    for archive, *purges in _PURGES:
        if whole.value(archive) in ("yes", "up", "true", "1") and not any(map(whole.value, purges)):
            message = f"archives nothing without {purges[0]}: records are archived as they are purged"
            yield whole.problem(archive, message, f"write {purges[0]}=12months", "warning")


def _host(whole: Whole) -> Iterator[Problem]:
    """main: the value is compared with the name of the host, as it is."""
    hint = "write the name of the host, and its address as DbdAddr"
    for key in ("DbdHost", "DbdBackupHost"):
        if key.lower() not in whole.values:
            continue
        value = whole.values[key.lower()][0]
        if re.fullmatch(r"[0-9]+(\.[0-9]+){3}|[0-9a-f]*:[0-9a-f:]+", value, re.IGNORECASE):
            what = "is an address, and the name of no host"
        elif re.search(r"[][(),\s]", value) or not value:
            what = "is the name of no host"
        else:
            continue
        ends = _STOP if key == "DbdHost" else "no slurmdbd takes itself for the backup"
        alone = key == "DbdHost" and not whole.value("DbdBackupHost")
        yield whole.problem(key, f"{what}: {ends}", hint, "error" if alone else "warning")


def _storage(whole: Whole) -> Iterator[Problem]:
    kind = whole.values["storagetype"][0] if "storagetype" in whole.values else _TYPES[0]
    if kind not in _TYPES and kind.lower() != "accounting_storage/slurmdbd":
        # src/interfaces/accounting_storage.c, acct_storage_g_init; slurmdbd itself has a rule in keys.toml.
        message = f"no plugin that slurmdbd can store with: {_STOP}"
        yield whole.problem("StorageType", message, f"write StorageType={_TYPES[0]}")
    name = whole.values["storageloc"][0] if "storageloc" in whole.values else "x"
    if not re.fullmatch(r"/.*|[0-9A-Za-z_$]+", name):
        # src/database/mysql_common.c, _create_db: the name goes into the query without quotes.
        message = f"is no name that the database takes without quotes: {_STOP}"
        yield whole.problem("StorageLoc", message, "write it with letters, digits and _ only")
    for word in filter(None, re.split(r"\s*,\s*", whole.value("StorageParameters"))):
        if word.partition("=")[0] not in _STORAGE_OPTIONS:
            # src/database/mysql_common.c, _set_mysql_ssl_opts
            message = f"{word.partition('=')[0]} is no option of it: slurmdbd logs an error and ignores it"
            yield whole.problem("StorageParameters", message, "SSL_CA=/path and the like", "warning")
        elif not word.partition("=")[2]:
            message = f"{word} has no value: slurmdbd does not reach the database, and tries for ever"
            yield whole.problem("StorageParameters", message, f"write {word.upper()}=/path", "warning")


def _communication(whole: Whole) -> Iterator[Problem]:
    parameters = whole.value("CommunicationParameters")
    if "disableipv4" in parameters and "enableipv6" not in parameters:
        message = f"DisableIPv4 without EnableIPv6 leaves no way to communicate: {_STOP}"
        yield whole.problem("CommunicationParameters", message, "write EnableIPv6,DisableIPv4")
    for name in ("keepaliveinterval", "keepaliveprobes", "keepalivetime"):
        value = option(parameters, name)
        if value is not None and not 0 <= integer(value) < 2**31:
            message = f"{name}={value} is out of range: slurmdbd logs an error and ignores it"
            yield whole.problem("CommunicationParameters", message, "", "warning")
    if number(whole.value("MessageTimeout"), 10) > 100:
        message = "is too high for a failure to be seen in time; slurmdbd logs a warning"
        yield whole.problem("MessageTimeout", message, "", "warning")


def _paths(whole: Whole) -> Iterator[Problem]:
    for key in ("ArchiveDir", "ArchiveScript"):
        value = whole.values[key.lower()][0] if key.lower() in whole.values else "/"
        if not value.startswith("/"):
            message = f"is no absolute path, and slurmdbd looks for it in its working folder: {_STOP}"
            yield whole.problem(key, message, "write the whole path")
