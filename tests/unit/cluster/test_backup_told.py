"""What watches a cluster is told of a backup, and a backup does not need it."""

from __future__ import annotations

from dataclasses import replace

from hpcstate.cluster.backup import tell
from hpcstate.model.monitoring import MonitoringSettings
from hpcstate.monitoring import places
from tests.unit.fake_live import TWO, FakeLive, failing

WATCHED = replace(TWO, monitoring=MonitoringSettings(on=True))


def test_the_time_of_a_backup_is_told_on_the_controller() -> None:
    live = FakeLive(lambda node, script: "", WATCHED)
    tell(WATCHED, live, 1_790_000_000)
    ((node, user, script),) = live.scripts
    assert (node, user) == ("controller", "root")
    assert "hpcstate_backup_taken_timestamp_seconds 1790000000\n" in script and places.BACKUP in script


def test_a_cluster_that_nothing_watches_is_not_asked() -> None:
    live = FakeLive(lambda node, script: "", TWO)
    tell(TWO, live, 1_790_000_000)
    assert live.scripts == []


def test_a_backup_is_one_where_it_cannot_be_told() -> None:
    tell(WATCHED, FakeLive(lambda node, script: failing(), WATCHED), 1_790_000_000)
