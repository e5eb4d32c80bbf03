"""Debian packages that the cluster file adds to a node: the difference to what is there. Pure.

A record on the node says which packages were installed for it. One that was there before is not in it, and
stays when the file no longer names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcstate.probe.packages import PackagesState

RECORD = "/etc/hpcstate/packages"
"""A line for each package that hpcstate installed: ``own NAME``, or ``with NAME`` for what came along."""

Step = tuple[str, ...]
"""An action of operations/packages.sh and its names."""


@dataclass(frozen=True)
class PackagesDifference:
    """What has to be done, in order, and what cannot be: sentences about packages that stay."""

    steps: tuple[Step, ...]
    stays: tuple[str, ...]


def difference(wanted: Sequence[str], found: PackagesState) -> PackagesDifference:
    """How the packages ``wanted``, and no others of ours, come to be on a node."""
    ours = {*found["own"], *found["along"]}
    installed = set(found["installed"])
    remove: list[str] = []
    along: list[str] = []
    stays: list[str] = []
    gone = [name for name in found["own"] if name not in wanted]
    for name in gone:
        others = found["needs"].get(name, [])
        if foreign := [other for other in others if other not in ours and other not in wanted]:
            stays.append(
                f"the package {name} is no longer in the cluster file, but {', '.join(foreign)}, which "
                f"hpcstate did not install, would go with it: `apt-get remove {name}` if that is right"
            )
        elif any(other in wanted for other in others):
            along.append(name)
        elif name in installed:
            remove.append(name)
    steps = {
        "add": [name for name in wanted if name not in installed],
        "own": [name for name in wanted if name in installed and name in found["along"]],
        "along": along,
        "remove": remove,
        "forget": [name for name in gone if name not in installed],
    }
    return PackagesDifference(
        tuple((action, *names) for action, names in steps.items() if names), tuple(stays)
    )
