"""What the cluster could not be made from again lies elsewhere, and is not too old."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.cluster import backup
from hpcstate.hypervisor import backup_timer
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live

HOUR = 3600.0
LONGEST = {"hourly": 4 * HOUR, "daily": 50 * HOUR, "weekly": 15 * 24 * HOUR}
"""How old the newest may be: one that failed once is made good by the next."""


def test_backup(cluster: Cluster, record_property: RecordProperty) -> None:
    """The newest backup is not older than twice what the cluster file says, and the next one comes"""
    settings = cluster.backup
    if settings is None:
        pytest.skip("the cluster file has no backup")
    there = [unit for unit in backup_timer.look() if unit.name == backup_timer.unit_name(cluster)]
    longest = LONGEST[settings.every]
    unit = f"{backup_timer.unit_name(cluster)}.service"
    wrong = [] if any(each.on for each in there) else ["the timer of this machine is off"]
    at = backup.newest(cluster, settings.path) if settings.path.is_dir() else None
    age = time.time() - at if at is not None else None
    if age is None and not wrong and (since := _timer_age(cluster)) is not None and since < longest:
        pytest.skip(f"the first backup is still to come (systemctl start {unit} makes it now)")
    if age is None:
        wrong.append(f"no archive of {cluster.name} is in {settings.path}")
    elif age > longest:
        wrong.append(f"the newest in {settings.path} is {age / HOUR:.0f} hours old")
    if wrong:
        raise CheckFailed(
            f"an archive in {settings.path} that is at most {longest / HOUR:.0f} hours old, and a timer",
            "; ".join(wrong),
            f"journalctl -u {unit} on this machine; `hpcstate start` sets the timer, "
            f"`hpcstate backup FILE --scheduled` makes one now",
        )
    record_property("observed", f"{(age or 0) / HOUR:.1f} hours old, in {settings.path}; {settings.every}")


def _timer_age(cluster: Cluster) -> float | None:
    """Seconds since the timer was made; None where systemd has none."""
    path = Path("/etc/systemd/system", f"{backup_timer.unit_name(cluster)}.timer")
    return time.time() - path.stat().st_mtime if path.exists() else None


@fault("no backup was made for long", "accounting.backup")
def old(live: Live) -> Iterator[None]:
    settings = live.cluster.backup
    if settings is None:
        pytest.skip("the cluster file has no backup")
    settings.path.mkdir(parents=True, exist_ok=True)
    marker = settings.path / f"{live.cluster.name}-1970-01-01T000000.tar"
    marker.touch()
    times = {path: path.stat() for path in backup.archives(live.cluster, settings.path)}
    long_ago = time.time() - LONGEST[settings.every] - HOUR
    try:
        for path in times:
            os.utime(path, (long_ago, long_ago))
        yield
    finally:
        marker.unlink(missing_ok=True)
        for path, before in times.items():
            if path != marker and path.exists():
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
