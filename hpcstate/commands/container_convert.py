"""``hpcstate container convert``: a .sif of an image or archive that somebody else built."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hpcstate.cli import OK
from hpcstate.container.convert import FORMS


def add(subparsers: Any) -> None:
    """Add ``convert`` to the commands of ``hpcstate container``."""
    parser = subparsers.add_parser(
        "convert",
        help="make a .sif of a Docker or OCI image or archive",
        description="Make a signed, reproducible .sif of an image that somebody else built.",
    )
    parser.add_argument("source", metavar="SOURCE", help=FORMS)
    parser.add_argument("file", metavar="FILE.sif", type=Path, help="what is written")
    parser.add_argument("--force", action="store_true", help="replace FILE.sif when it exists")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    """Convert, and say what came out."""
    from hpcstate.artifact.store import Store
    from hpcstate.container import toolbox as tools_root
    from hpcstate.container.convert import convert, demand, refuse
    from hpcstate.terminal import stage

    target: Path = args.file
    refuse(target, args.force)
    demand(args.source)
    with stage("tools", "what converts: from build/, the store, or made now from Debian packages"):
        toolbox = tools_root.toolbox(Store.default())
    with stage(target.name, f"converting {args.source}"):
        manifest = convert(args.source, target, toolbox)
    print(f"{target}: {manifest.size / 1e6:.0f} MB, signed")
    print(f"sha256 {manifest.digest}")
    return OK
