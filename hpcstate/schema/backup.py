"""``backup`` of an hpc cluster: when, where to, and what of it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hpcstate.model import BackupSettings, Home
from hpcstate.model.backup import Every
from hpcstate.schema.keys import BackupKeys, HpcKeys
from hpcstate.schema.section import Section


def read_backup(cluster: Section, home: Home) -> BackupSettings | None:
    """The section; None where it is absent, or lacks what it needs (reported)."""
    if HpcKeys.backup not in cluster:
        return None
    section = cluster.section(HpcKeys.backup)
    every, path = section.value(BackupKeys.every), section.value(BackupKeys.path)
    phrase, key = section.value(BackupKeys.passphrase_file), section.value(BackupKeys.encrypt_to)
    homes = section.value(BackupKeys.homes)
    if phrase and key:
        section.report.error(
            section.at(BackupKeys.encrypt_to), "passphrase_file encrypts it already", "keep one of the two"
        )
    if homes and home != "nfs":
        section.report.error(
            section.at(BackupKeys.homes),
            f"only homes on the controller's data volume are taken, and they are {home}",
            "leave it out, and back them up where they are (docs/storage.md)",
        )
    settings = BackupSettings(
        every=cast(Every, every),
        path=Path(path),
        keep=section.value(BackupKeys.keep),
        homes=homes,
        containers=section.value(BackupKeys.containers),
        passphrase_file=Path(phrase) if phrase else None,
        encrypt_to=Path(key) if key else None,
    )
    return settings if every and path else None
