"""How a .sif travels: what all ways have in common, and the way from here to the controller.

hpcstate/registry/spread.py has the ways from the controller to the nodes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live
from hpcstate.registry import scripts
from hpcstate.registry.layout import ROOT, Stored
from hpcstate.run import Result, run, tail

Via = Literal["auto", "rsync", "sbcast", "oras"]
SayOfNode = Callable[[str, str], None]
"""Told what a node is doing: its name and a few words."""

HOURS = 6 * 3600.0
"""How long one transfer may take, in seconds. One that stands still is given up earlier."""

_PROGRESS = 5.0


@dataclass(frozen=True)
class Way:
    """How to transfer. ``bandwidth_mbit`` limits what leaves any one machine (Mbit/s, 0: no limit);
    ``oras_url`` is where the user's OCI registry keeps containers (``oras://host:5000/path``), reached
    without TLS with ``plain_http``."""

    via: Via = "auto"
    bandwidth_mbit: int = 0
    oras_url: str = ""
    plain_http: bool = False

    def problem(self) -> str:
        """Why these choices do not go together; empty when they do."""
        if self.via == "oras" and not self.oras_url.startswith("oras://"):
            return "`--via oras` needs --oras-url oras://HOST:PORT/PATH, an OCI registry that all nodes reach"
        if self.oras_url and self.via != "oras":
            return "`--oras-url` goes with --via oras"
        if self.bandwidth_mbit and self.via in ("sbcast", "oras"):
            return f"{self.via} cannot be limited: leave out --bandwidth, or use --via rsync"
        if self.bandwidth_mbit < 0:
            return "--bandwidth is in Mbit/s, 1 or more"
        return ""

    def kib_per_s(self, shares: int = 1) -> int:
        """The limit of one of ``shares`` transfers, as rsync wants it."""
        return max(1, self.bandwidth_mbit * 1_000_000 // 8 // 1024 // shares) if self.bandwidth_mbit else 0


DEFAULT = Way()


def chosen(way: Way) -> Via:
    """What ``auto`` stands for: rsync. It alone resumes, and needs neither a free node nor a service."""
    return "rsync" if way.via == "auto" else way.via


def upload(live: Live, source: Path, stored: Stored, way: Way, say: SayOfNode) -> None:
    """Bring the local file ``source`` to the controller, going on where an earlier try stopped.

    Raises HpcstateError when it did not get there.
    """
    node = live.cluster.controller.name
    shell, target = live.transport(node)
    limit = [f"--bwlimit={way.kib_per_s()}"] if way.bandwidth_mbit else []
    words = ["rsync", "--append", "--timeout=120", *limit, "--rsync-path=sudo -n rsync"]
    with progress(live, stored, [node], say):
        done = run(
            [*words, "-e", shell, "--", source, f"{target}:{scripts.incoming(stored)}"],
            timeout=HOURS,
            check=False,
        )
    if done.code != 0:
        raise transfer_error(live, node, stored, done)


def transfer_error(live: Live, node: str, stored: Stored, done: Result) -> HpcstateError:
    """What a failed transfer to ``node`` comes to. On a full disk nothing is left of the file; otherwise its
    part stays, for the next try."""
    said = done.stderr.strip() or done.stdout.strip()
    if "no space left on device" in said.lower() or "(28)" in said:
        live.run(node, scripts.forget(stored), user="root", check=False)
        return full_disk(node, stored)
    return HpcstateError(
        f"{stored.file} did not get there:\n{tail(said, 3)}",
        where=node,
        hint="the same command again goes on from here",
    )


def full_disk(node: str, stored: Stored) -> HpcstateError:
    """The disk of ``node`` does not hold ``stored``."""
    return HpcstateError(
        f"no space for {stored.file} ({megabytes(stored.size)}) on {ROOT}",
        where=node,
        hint="`hpcstate container prune` removes old versions; nothing half is left",
    )


def megabytes(size: int) -> str:
    """``size`` bytes as people read it."""
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"


@contextmanager
def progress(live: Live, stored: Stored, nodes: Iterable[str], say: SayOfNode) -> Iterator[set[str]]:
    """While the block runs, tell how much of ``stored`` the nodes of the yielded set (at first ``nodes``)
    have."""
    receiving, done = set(nodes), threading.Event()

    def watch() -> None:
        while not done.wait(_PROGRESS):
            for node in sorted(receiving):
                try:
                    there = live.run(node, scripts.progress(stored), user="root", timeout=20).stdout
                except HpcstateError:
                    continue
                if not done.is_set() and node in receiving:
                    say(
                        node,
                        f"{stored.name}: {100 * int(there) // stored.size} % of {megabytes(stored.size)}",
                    )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield receiving
    finally:
        done.set()
        watcher.join()


class DamagedError(HpcstateError):
    """What arrived is not what was sent. Nothing of it is left: the next try begins anew."""


Place = Callable[[str], None]
"""Verifies what has arrived on a node and gives it its name; raises DamagedError when the bytes are others,
HpcstateError when its signature is refused."""
