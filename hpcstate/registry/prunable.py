"""What of the registry may be removed, and what stays and why. Pure: prune.py removes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hpcstate.errors import HpcstateError
from hpcstate.probe.registry import RegistryState
from hpcstate.registry.layout import SHORT, Catalog, Stored, named


@dataclass(frozen=True)
class Kept:
    """A version that a prune leaves, and why."""

    stored: Stored
    why: str


def prune(
    catalog: Catalog, uses: Mapping[str, str], keep: int
) -> tuple[tuple[Stored, ...], tuple[Kept, ...]]:
    """What of ``catalog`` may be removed, and what stays and why.

    What each name stands for stays, on every node, and the ``keep`` latest before the current version, and
    what ``uses`` names: file below the registry to who uses it. Raises HpcstateError for a negative ``keep``.
    """
    if keep < 0:
        raise HpcstateError("--keep is a number of versions, 0 or more")
    # Nodes that no version names are all alike: whatever they are called.
    nodes = {"", *(node for stored in catalog.stored for node in stored.nodes)}
    by_name = {stored.file for node in nodes for stored in catalog.current_on(node).values()}
    remove, stay = [], []
    for name in dict.fromkeys(stored.name for stored in catalog.stored):
        older = [stored for stored in catalog.of(name) if not catalog.is_current(stored)]
        latest = {stored.file for stored in older[len(older) - keep :]} if keep else set()
        for stored in catalog.of(name):
            if catalog.is_current(stored):
                stay.append(Kept(stored, "current"))
            elif stored.file in by_name:
                stay.append(Kept(stored, "current on nodes that did not get the newer one"))
            elif stored.file in uses:
                stay.append(Kept(stored, f"in use by {uses[stored.file]}"))
            elif stored.file in latest:
                stay.append(Kept(stored, f"one of the latest {keep} before the current one (--keep)"))
            else:
                remove.append(stored)
    return tuple(remove), tuple(stay)


def lost(
    catalog: Catalog, states: Mapping[str, RegistryState], silent: Collection[str] = ()
) -> tuple[Stored, ...]:
    """What ``catalog`` names and none of ``states`` has, nor should any of the ``silent`` nodes have it: no
    deploy can bring it back."""
    there = {path for state in states.values() for path in state["files"]}
    return tuple(
        stored
        for stored in catalog.stored
        if stored.file not in there and not any(stored.is_on(node) for node in silent)
    )


def left_over(
    catalog: Catalog, states: Mapping[str, RegistryState], uses: Mapping[str, str]
) -> tuple[Stored, ...]:
    """What an interrupted prune left: files with the name that a deploy gives, and the content that it says,
    which ``catalog`` does not have and nobody uses. ``nodes`` of each are those that have it.

    Only of names that ``catalog`` has: a prune leaves the current version of each. Where the catalogs of all
    nodes are gone, every container would be left over otherwise.
    """
    known = {stored.file for stored in catalog.stored}
    found: dict[str, Stored] = {}
    for node, state in states.items():
        for path, file in state["files"].items():
            parts = named(path)
            if path in known or path in uses or parts is None or file["sha256"][:SHORT] != parts[3]:
                continue
            category, name, version, _ = parts
            if not catalog.of(name):
                continue
            nodes = (*found[path].nodes, node) if path in found else (node,)
            found[path] = Stored(name, category, version, file["sha256"], file["size"], False, "", nodes)
    return tuple(found.values())
