"""``monitoring`` of an hpc cluster: what is kept how long, who may look, who is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from hpcstate.model import MailSettings, MonitoringSettings
from hpcstate.model.monitoring import AlertReceiver, PackageSource
from hpcstate.schema.declare import SectionKey
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.monitoring_keys import DcgmKeys, MonitoringKeys, ReceiverKeys
from hpcstate.schema.section import Section

SCRAPER = "scrape"
"""The name by which Prometheus itself logs in at what it asks."""


def read_monitoring(
    cluster: Section, controller: IPv4Address, mail: MailSettings | None
) -> MonitoringSettings:
    """The section; ``controller`` is the address of that node. What is wrong in it is reported."""
    section = cluster.section(HpcKeys.monitoring)
    listen = section.value(MonitoringKeys.listen)
    if listen is not None and listen != controller and not listen.is_loopback:
        section.report.error(
            section.at(MonitoringKeys.listen),
            f"the controller has not this address, but {controller}",
            "write that, or 127.0.0.1, or leave it out",
        )
    users = section.values(MonitoringKeys.users) or MonitoringSettings.users
    if SCRAPER in users or len(set(users)) < len(users):
        section.report.error(
            section.at(MonitoringKeys.users),
            f"{SCRAPER} is Prometheus' own name, and each other name stands once",
            "take another name",
        )
    return MonitoringSettings(
        on=section.value(MonitoringKeys.enabled),
        retention_days=section.value(MonitoringKeys.retention_days),
        retention_gb=section.value(MonitoringKeys.retention_gb),
        interval_s=section.value(MonitoringKeys.interval_s),
        listen=listen,
        allow_from=tuple(section.values(MonitoringKeys.allow_from)),
        users=tuple(users),
        receivers=tuple(_receivers(section, mail)),
        gpus=_gpus(section),
        dashboards=section.value(MonitoringKeys.dashboards) or MonitoringKeys.grafana in section,
        page=section.value(MonitoringKeys.page),
        dcgm=_source(section, MonitoringKeys.dcgm),
        grafana=_source(section, MonitoringKeys.grafana),
    )


def _gpus(section: Section) -> bool:
    wanted = section.value(MonitoringKeys.gpus)
    if MonitoringKeys.dcgm in section and not wanted:
        section.report.error(
            section.at(MonitoringKeys.dcgm), "nothing tells of GPUs", "write gpus: true beside it"
        )
    return wanted


def _source(section: Section, key: SectionKey) -> PackageSource | None:
    """The repository below ``key``; None where there is none, or its key cannot be used, which is
    reported."""
    if key not in section:
        return None
    found = section.section(key)
    words = found.value(DcgmKeys.repository).split(" ")
    path, version = found.value(DcgmKeys.key_file), found.value(DcgmKeys.version)
    armour = _armour(found, path) if path else ""
    if len(words) < 2 or not armour or not version:
        return None
    return PackageSource(words[0], words[1], tuple(words[2:]), armour, version)


def _armour(section: Section, path: str) -> str:
    """The text of the key in ``path``; empty, and reported, where it is none that apt reads."""
    place = section.at(DcgmKeys.key_file)
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        section.report.error(place, f"{path}: {error.strerror}", "download the repository's key to there")
        return ""
    except UnicodeDecodeError:
        text = ""
    if not re.search(r"-----BEGIN PGP PUBLIC KEY BLOCK-----.*-----END PGP PUBLIC KEY BLOCK-----", text, re.S):
        section.report.error(
            place,
            f"{path} is no public key of OpenPGP in ASCII armour",
            "gpg --enarmor makes one of a binary key (apt-secure(8), .asc)",
        )
        return ""
    return text if text.endswith("\n") else text + "\n"


def _receivers(section: Section, mail: MailSettings | None) -> Iterator[AlertReceiver]:
    for entry in section.sections(MonitoringKeys.receivers):
        webhook, email = entry.value(ReceiverKeys.webhook), entry.value(ReceiverKeys.email)
        severity = entry.value(ReceiverKeys.severity)
        if bool(webhook) == bool(email):
            entry.report.error(entry.place, "a receiver is a webhook or an email", "write one of the two")
        elif webhook:
            yield AlertReceiver("webhook", webhook, severity)
        elif mail is None:
            entry.report.error(
                entry.at(ReceiverKeys.email), "there is no relay that takes mails", "add the section `mail`"
            )
        else:
            yield AlertReceiver("email", email, severity)
