"""Deploys of this folder within another, wherever pyinfra was started."""

from __future__ import annotations

from pathlib import Path

from pyinfra import local

DEPLOYS = Path(__file__).resolve().parent.parent


def include(name: str) -> None:
    """Runs the deploy ``name`` (``base.py``) of the project on this host. pyinfra's own takes names from the
    folder it was started in, and ``./name`` from the file that any host is at just then."""
    local.include(str(DEPLOYS / name))
