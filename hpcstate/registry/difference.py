"""How the registry of a node differs from what the catalog says of it. Pure.

hpcstate/registry/layout.py has the layout and the catalog, hpcstate/probe/registry.py reads a node.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcstate.probe.registry import RegistryState
from hpcstate.registry.layout import (
    CATALOG,
    CONFIG,
    FILE_MODE,
    OWNER,
    ROOT,
    SHORT,
    Catalog,
    Stored,
    folders,
    is_our_link,
)


@dataclass(frozen=True)
class Difference:
    """What a node's registry lacks. Paths are below the registry.

    ``layout`` are folders that are missing or have another mode or owner; ``config`` whether config.yaml is
    another. ``missing`` are not there, ``damaged`` there with another size or digest, ``open`` with another
    mode or owner. ``links`` are to be set (path to target), ``stale`` are links of ours to be removed.
    ``unknown`` are .sif files, links and odd things that the catalog does not name. ``catalog`` says that the
    node's catalog is another.
    """

    layout: tuple[str, ...]
    config: bool
    missing: tuple[Stored, ...]
    damaged: tuple[Stored, ...]
    open: tuple[Stored, ...]
    links: tuple[tuple[str, str], ...]
    stale: tuple[str, ...]
    unknown: tuple[str, ...]
    catalog: bool

    @property
    def to_send(self) -> tuple[Stored, ...]:
        """What has to travel to the node."""
        return tuple(sorted((*self.missing, *self.damaged), key=lambda stored: stored.file))

    @property
    def in_step(self) -> bool:
        """Whether the node has what it should have; what nobody knows is not counted."""
        return not (self.layout or self.config) and self.in_step_but_for_layout

    @property
    def in_step_but_for_layout(self) -> bool:
        """The same of the containers and the catalog only."""
        return not (self.to_send or self.open or self.links or self.stale or self.catalog)


def wrong_folders(state: RegistryState) -> tuple[str, ...]:
    """The folders (absolute) that are missing or have another mode or owner."""
    there = {path: (found["mode"], found["owner"]) for path, found in state["folders"].items()}
    return tuple(
        path
        for path, wanted in folders().items()
        if there.get(path.removeprefix(ROOT).removeprefix("/")) != wanted
    )


def difference(
    state: RegistryState, catalog: Catalog, node: str, *, catalog_text: str, config: str
) -> Difference:
    """What ``node``, whose registry is ``state``, lacks of what ``catalog`` says of it.

    ``catalog_text`` and ``config`` are the contents that catalog.yaml and config.yaml should have.
    """
    wanted = {stored.file: stored for stored in catalog.on(node)}
    links = catalog.links_on(node)
    missing, damaged, opened = [], [], []
    for path, stored in wanted.items():
        found = state["files"].get(path)
        if found is None:
            missing.append(stored)
        elif (found["size"], found["sha256"]) != (stored.size, stored.digest):
            damaged.append(stored)
        elif (found["mode"], found["owner"]) != (FILE_MODE, OWNER):
            opened.append(stored)
    extra_links = [path for path in state["links"] if path not in links]
    stale = [path for path in extra_links if is_our_link(path, state["links"][path])]
    known = {*wanted, *links, *stale}
    unknown = [path for path in (*state["files"], *state["links"], *state["others"]) if path not in known]
    return Difference(
        layout=wrong_folders(state),
        config=state["config"] != config,
        missing=tuple(missing),
        damaged=tuple(damaged),
        open=tuple(opened),
        links=tuple((path, target) for path, target in links.items() if state["links"].get(path) != target),
        stale=tuple(sorted(stale)),
        unknown=tuple(sorted(unknown)),
        catalog=state["catalog"] != catalog_text,
    )


def findings(found: Difference, state: RegistryState) -> list[str]:
    """``found`` as sentences for people."""
    said = [f"{path} is not {' '.join(folders()[path])}" for path in found.layout]
    if found.config:
        said.append(f"{CONFIG} is {'not the rendered one' if state['config'] else 'missing'}")
    said += [f"{stored.file} is missing" for stored in found.missing]
    for stored in found.damaged:
        there = state["files"][stored.file]
        what = (
            f"has {there['size']} bytes instead of {stored.size}"
            if there["size"] != stored.size
            else f"has the digest {there['sha256'][:SHORT]}… instead of {stored.digest[:SHORT]}…"
        )
        said.append(f"{stored.file} {what}")
    for stored in found.open:
        there = state["files"][stored.file]
        said.append(f"{stored.file} is {there['mode']} {there['owner']} instead of {FILE_MODE} {OWNER}")
    said += [f"{path} does not lead to {target}" for path, target in found.links]
    said += [f"{path} is a link of no container" for path in found.stale]
    said += [f"{path} is not in the catalog" for path in found.unknown]
    if found.catalog:
        said.append(f"{CATALOG} is {'another one than on the controller' if state['catalog'] else 'missing'}")
    return said
