"""``hpcstate plan FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``plan``: 0 when nothing would be done, 1 when something would."""
    parser = subparsers.add_parser("plan", help="what would be built, created and changed; changes nothing")
    parser.add_argument("file", metavar="FILE", type=Path, help="the cluster file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    from hpcstate import schema
    from hpcstate.cluster import plan

    made = plan.make_plan(schema.load(args.file), lambda text: print(f"  {text}", file=sys.stderr))
    print(json.dumps(made.to_dict(), indent=1) if args.json else plan.as_text(made))
    return 0 if made.empty else 1
