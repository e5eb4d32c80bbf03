"""What draws the charts of a cluster's page: fetched once, and a deploy goes on without it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deploys.util import monitoring_files
from hpcstate.errors import HpcstateError
from hpcstate.host import npm
from hpcstate.monitoring import page
from tests.unit.monitoring.watched import cluster as watched

PAGE = "    monitoring: {enabled: true, page: true}\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that were asked for; nothing is known yet."""
    monkeypatch.setattr(monitoring_files, "_charts", [])
    return []


def test_without_the_registry_the_deploy_says_so_once_and_goes_on(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(package: npm.NpmPackage, names: object) -> None:
        asked.append(package.name)
        raise HpcstateError("https://r/uplot could not be fetched: no route", where="tools.toml", hint="net?")

    monkeypatch.setattr(npm, "texts", unreachable)
    of = watched(tmp_path, PAGE)
    with caplog.at_level(logging.WARNING):
        assert monitoring_files.charts(of) is None
        assert monitoring_files.charts(of) is None
    assert asked == ["uplot"]
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith(f"{of.name}: its page has no charts until") and "no route" in line
    assert "\n" not in line


def test_a_library_that_cannot_stand_in_a_page_is_left_out(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = dict.fromkeys(page.FILES, "a </script> b")
    monkeypatch.setattr(npm, "texts", lambda package, names: texts)
    assert monitoring_files.charts(watched(tmp_path, PAGE)) is None


def test_what_was_fetched_goes_into_the_page_with_its_version(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm, "texts", lambda package, names: dict.fromkeys(names, "fine"))
    found = monitoring_files.charts(watched(tmp_path, PAGE))
    assert found is not None
    assert found.name == f"uPlot {npm.load()['uplot'].version} (MIT)"


def test_a_cluster_without_the_page_asks_nobody(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm, "texts", lambda package, names: asked.append(package.name))
    assert monitoring_files.charts(watched(tmp_path, "    monitoring: {enabled: true}\n")) is None
    assert asked == []
