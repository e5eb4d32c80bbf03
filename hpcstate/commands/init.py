"""``hpcstate init``: a cluster file of this host's own, ready to be changed."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any

from hpcstate.cli import OK
from hpcstate.errors import HpcstateError

_INVENTORY = """\
from hpcstate.inventory import groups_beside

globals().update(groups_beside(__file__))
"""


def register(subparsers: Any) -> None:
    """Add ``init``."""
    parser = subparsers.add_parser(
        "init",
        help="write a cluster file from what this host has",
        description="Write a cluster file from what this host has, and pyinfra's inventory beside it.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        default=Path("inventories/local.yaml"),
        help="where to (default: %(default)s); the cluster is named after it",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file, and say what it has."""
    from hpcstate import schema
    from hpcstate.files import write_atomically
    from hpcstate.hypervisor import fit, routes
    from hpcstate.hypervisor.first_file import HostSize, first_file

    file: Path = args.file
    if file.suffix != ".yaml":
        raise HpcstateError("a cluster file ends with .yaml", where=str(file))
    if file.exists() and not args.force:
        raise HpcstateError("there is such a file", where=str(file), hint="another name, or --force")
    state = fit.host_state()
    assert state.pci is not None
    size = HostSize(
        hostname=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=state.memory_mb,
        networks=tuple(route.network for route in state.routes or () if route.kind != "throw"),
        is_lost=lambda subnet: any(routes.captures(subnet, state.routes or (), state.rules or ())),
    )
    text = first_file(file.stem, str(file), state.pci, size)
    (cluster,) = schema.parse(text, file).clusters
    write_atomically(file, text)
    write_atomically(file.with_suffix(".py"), _INVENTORY)
    gpus = text.count("device_type: gpu")
    nodes = text.count("        ip: ")
    print(f"wrote {file} and {file.with_suffix('.py')}: a controller and {nodes} compute nodes")
    print(f"  {gpus} GPUs of this host" if gpus else "  simulated GPUs: this host has none to give away")
    for node in cluster.workers:
        print(f"  {node.name}: GRES {node.gres}")
    if left_out := text.count("# Left out: "):
        print(f"  {left_out} GPUs of this host are left out; the file says why")
    print(f"next: look at it, then hpcstate validate {file}, then ./hpc up {file}")
    return OK
