"""Starts the exporter that the first word names (``slurm_exporter``): ``python3 -I FOLDER WORD …``."""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    """The other words are the exporter's."""
    import_module(f"hpcstate.monitoring.{sys.argv.pop(1)}").main()


if __name__ == "__main__":
    main()
