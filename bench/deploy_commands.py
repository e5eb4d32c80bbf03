"""How long a command of a deploy takes on a node: by pyinfra's own connector, and by ours.

    .venv/bin/python bench/deploy_commands.py FILE [--node NAME] [--times 30] [--json]

FILE describes a running cluster. The command is `true`, as root: what is measured is the way to it. The ratio
is what can be compared between machines. Nothing is changed on the node.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pyinfra.api
from pyinfra.api.connect import connect_all
from pyinfra.facts.server import Command

from hpcstate import schema
from hpcstate.cluster.inventory import CONNECTOR, connected, groups

api: Any = pyinfra.api
"""It has no types here."""


def seconds(name: str, data: dict[str, object], times: int) -> float:
    """The mean of ``times`` commands on the host ``name``, as an inventory names it."""
    state = api.State(api.Inventory(([(name, data)], {})), api.Config(SUDO=True))
    connect_all(state)
    (host,) = state.inventory.get_active_hosts()
    host.get_fact(Command, "true")
    begun = time.monotonic()
    for _ in range(times):
        host.get_fact(Command, "true")
    return (time.monotonic() - begun) / times


def main() -> None:
    """Measure both ways, one after the other, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--node", metavar="NAME")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    hosts = {
        name.removeprefix(f"@{CONNECTOR}/"): data
        for found in connected(groups(schema.load(args.file))).values()
        for name, data in found
    }
    name = args.node or next(iter(hosts))
    own = seconds(name, hosts[name], args.times)
    ours = seconds(f"@{CONNECTOR}/{name}", hosts[name], args.times)
    if args.json:
        print(json.dumps({"node": name, "pyinfra_s": own, "hpcstate_s": ours, "ratio": own / ours}))
        return
    print(f"{name}: a command by pyinfra's own connector {own * 1000:.0f} ms, by ours {ours * 1000:.0f} ms")
    print(f"ratio {own / ours:.1f}")


if __name__ == "__main__":
    main()
