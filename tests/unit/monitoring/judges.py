"""Prometheus' own programs, by which these tests judge: those of this machine, or the packages of tools.toml
that `./hpc test` fetches."""

from __future__ import annotations

import os
import shutil

from hpcstate.host.tools import load
from hpcstate.paths import TOOLS

DEBS = ("prometheus", "promtool", "prometheus-alertmanager")


def program_of(name: str) -> str | None:
    """The path of the program ``name``; None where it is not to be had here."""
    if found := os.environ.get(f"HPCSTATE_{name.upper()}") or shutil.which(name):
        return found
    folders = [(deb.root(TOOLS) / deb.program).parent for deb in map(load().debs.get, DEBS) if deb]
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)
