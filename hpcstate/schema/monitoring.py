"""``monitoring`` of an hpc cluster: what is kept how long, who may look, who is told."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from hpcstate.model import MailSettings, MonitoringSettings
from hpcstate.model.monitoring import AlertReceiver
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.monitoring_keys import MonitoringKeys, ReceiverKeys
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
    )


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
