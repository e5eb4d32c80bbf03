"""Prometheus' own programs, by which these tests judge: those of this machine, or the packages of tools.toml
that `./hpc test` fetches."""

from __future__ import annotations

import os
import shutil

from hpcstate.host import npm
from hpcstate.host.tools import load
from hpcstate.monitoring import page
from hpcstate.paths import TOOLS

DEBS = ("prometheus", "promtool", "prometheus-alertmanager")


def program_of(name: str) -> str | None:
    """The path of the program ``name``; None where it is not to be had here."""
    if found := os.environ.get(f"HPCSTATE_{name.upper()}") or shutil.which(name):
        return found
    folders = [(deb.root(TOOLS) / deb.program).parent for deb in map(load().debs.get, DEBS) if deb]
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)


def chart_library() -> page.ChartLibrary | None:
    """uPlot as `./hpc test` has fetched it; None where it is not here."""
    package = npm.load()[page.LIBRARY]
    if not (TOOLS / package.tarball.rpartition("/")[2]).is_file():
        return None
    return page.library(f"uPlot {package.version}", npm.texts(package, page.FILES))
