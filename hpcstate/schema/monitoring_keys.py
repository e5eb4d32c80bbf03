"""The keys of ``monitoring``: what is kept how long, who may look, who is told."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import cast, get_args

from hpcstate.model.monitoring import AlertReceiver, MonitoringSettings, Severity
from hpcstate.schema import leaf
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, ValueKey
from hpcstate.schema.mail_keys import ADDRESS

URL = leaf.pattern(
    r"https?://[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/?&=%+-]*)?",
    "an address like https://chat.example.org/hooks/1",
    "a secret in it would stand in the cluster file: put it behind an address of your own",
    longest=500,
)
LOGIN = leaf.pattern(r"[a-z][a-z0-9_-]{0,31}", "a name of lower-case letters, digits, _ and -")


def _severity(value: str) -> Severity:
    return cast(Severity, leaf.choice(*get_args(Severity))(value))


class ReceiverKeys(Keys, title="monitoring.receivers"):
    webhook = ValueKey("Alertmanager sends its JSON there by POST", URL, "")
    email = ValueKey("a mail goes to this address, by the relay of `mail`", ADDRESS, "")
    severity = ValueKey(
        "the least that is told: `warning`, or `critical` alone",
        _severity,
        AlertReceiver.severity,
    )


class MonitoringKeys(Keys, title="monitoring"):
    enabled = ValueKey(
        "metrics and alerts of the cluster; false leaves no trace of them",
        leaf.boolean,
        MonitoringSettings.on,
    )
    retention_days = ValueKey(
        "for how many days metrics are kept", leaf.integer(1, 3650), MonitoringSettings.retention_days
    )
    retention_gb = ValueKey(
        "how many GiB they take at most: the oldest go first",
        leaf.integer(1, 10_000),
        MonitoringSettings.retention_gb,
    )
    interval_s = ValueKey(
        "every node is asked every so many seconds", leaf.integer(10, 300), MonitoringSettings.interval_s
    )
    listen = ValueKey[IPv4Address | None](
        "where Prometheus (port 9090) and Alertmanager (9093) listen on the controller: its own address, or "
        "`127.0.0.1`, which a tunnel of SSH reaches",
        leaf.address,
        None,
        default_text="its address in the cluster",
    )
    allow_from = ListKey(
        "networks that may reach these two ports (`[10.1.0.0/16]`), beside the hypervisor", leaf.subnet
    )
    users = ListKey(
        "who logs in there; each has a password in `build/<cluster>/secrets/monitoring/`",
        LOGIN,
        default_text="`[admin]`",
    )
    receivers = EntriesKey(
        "who is told of alerts", ReceiverKeys, default_text="nobody: Alertmanager's own page has them"
    )
