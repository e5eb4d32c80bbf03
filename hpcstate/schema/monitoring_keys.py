"""The keys of ``monitoring``: what is kept how long, who may look, who is told."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import cast, get_args

from hpcstate.model.monitoring import AlertReceiver, MonitoringSettings, Severity
from hpcstate.schema import leaf
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, SectionKey, ValueKey
from hpcstate.schema.mail_keys import ADDRESS
from hpcstate.schema.mount_keys import folder

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


REPOSITORY = leaf.pattern(
    r"https?://[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/+-]*)? "
    r"(/|[A-Za-z0-9][A-Za-z0-9./_-]*( [A-Za-z0-9][A-Za-z0-9./_-]*)+)",
    "an address, a suite and its components, as behind `deb` in sources.list(5): "
    "`https://apt.grafana.com stable main`; for a flat repository the address and `/`",
    longest=500,
)
VERSION = leaf.pattern(
    r"[0-9][A-Za-z0-9.+~:-]*", "a version as dpkg has it, like 12.3.1 or 4.8.2-1", longest=100
)


class DcgmKeys(Keys, title="monitoring.dcgm"):
    repository = ValueKey(
        "NVIDIA's repository, as behind `deb` in sources.list(5): its address, and `/` for a flat one",
        REPOSITORY,
        "",
        required=True,
    )
    key_file = ValueKey(
        "the key that signs it, OpenPGP in ASCII armour: a file of this machine, an absolute path",
        folder,
        "",
        required=True,
    )
    version = ValueKey(
        "the version of `datacenter-gpu-manager-exporter`; what it depends on comes from there too, and "
        "nothing else does",
        VERSION,
        "",
        required=True,
    )


class GrafanaKeys(Keys, title="monitoring.grafana"):
    repository = DcgmKeys.repository.but(
        "Grafana's repository, as behind `deb` in sources.list(5): `https://apt.grafana.com stable main`"
    )
    key_file = DcgmKeys.key_file.but(DcgmKeys.key_file.meaning)
    version = DcgmKeys.version.but("the version of the package `grafana`; nothing else comes from there")


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
    gpus = ValueKey(
        "nodes tell of their GPUs: real ones by nvidia-smi and the kernel's log, or by DCGM, see "
        "monitoring.dcgm; simulated ones are marked",
        leaf.boolean,
        MonitoringSettings.gpus,
    )
    dcgm = SectionKey(
        "DCGM and dcgm-exporter of NVIDIA's repository on nodes with a real GPU, in the place of nvidia-smi",
        DcgmKeys,
    )
    page = ValueKey(
        "a page of the cluster at `https://CONTROLLER:9090/consoles/cluster.html`, with Prometheus' login",
        leaf.boolean,
        MonitoringSettings.page,
    )
    dashboards = ValueKey(
        "Grafana's dashboards lie on the controller in `/usr/local/share/hpcstate/dashboards`, for a Grafana "
        "of your own; with `grafana` they do in any case",
        leaf.boolean,
        MonitoringSettings.dashboards,
    )
    grafana = SectionKey(
        "Grafana of its repository on the controller, port 3000, with these dashboards", GrafanaKeys
    )
