"""How a cluster is watched: ``monitoring`` of the file."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

AlertKind = Literal["webhook", "email"]
"""How an alert reaches somebody: an HTTP request, or a mail by the relay of ``mail``."""

Severity = Literal["warning", "critical"]
"""How bad it is: ``critical`` where jobs or data are lost."""


@dataclass(frozen=True)
class AlertReceiver:
    """Who is told of alerts: the ``url`` of a webhook, or the address of a mail. ``severity`` is the least
    that is told: ``warning``, or ``critical`` alone."""

    kind: AlertKind
    to: str
    severity: Severity = "warning"


@dataclass(frozen=True)
class PackageSource:
    """A repository of Debian packages that is not Debian's: its ``url``, ``suite`` (``/`` for a flat one) and
    ``components``, as sources.list(5) has them, the ``key`` that signs it (OpenPGP, in ASCII armour), and the
    ``version`` of the package that is wanted of it."""

    url: str
    suite: str
    components: tuple[str, ...]
    key: str
    version: str


@dataclass(frozen=True)
class MonitoringSettings:
    """``on``: metrics are collected, kept on the controller and judged by alert rules. It is off until a file
    asks for it.

    They are kept ``retention_days`` long and take ``retention_gb`` GiB at most. Every node is asked every
    ``interval_s`` seconds. ``listen`` is where Prometheus and Alertmanager listen on the controller, None for
    its address in the cluster; whoever is in one of ``allow_from`` reaches them there, and the hypervisor.
    ``users`` log in there, each with a generated password.

    ``gpus``: nodes tell of their GPUs, by DCGM of NVIDIA's repository ``dcgm`` where there is one.
    ``dashboards``: Grafana's dashboards lie on the controller, for Grafana of its repository ``grafana``, or
    for one of the site's own. ``page``: Prometheus has a page of the cluster.
    """

    on: bool = False
    retention_days: int = 30
    retention_gb: int = 2
    interval_s: int = 30
    listen: IPv4Address | None = None
    allow_from: tuple[IPv4Network, ...] = ()
    users: tuple[str, ...] = ("admin",)
    receivers: tuple[AlertReceiver, ...] = ()
    gpus: bool = False
    dashboards: bool = False
    page: bool = False
    dcgm: PackageSource | None = None
    grafana: PackageSource | None = None
