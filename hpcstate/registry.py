"""The registry of containers on every node of a Slurm cluster: its layout, what lies in it, and what differs.

    /opt/containers/                              root:slurm 755
        ml-frameworks/ custom-images/ base-images/
            <name>-<version>-<digest>.sif         root:slurm 644; the first 12 digits of its sha256
            <name>.sif -> the current one of them
        .registry/
            catalog.yaml                          what lies there (hpcstate/catalog.py), written last
            config.yaml                           for people and programs on the node
            digests                               sha256, size, inode and time of what was verified
            incoming/                             what is on its way, root:root 700

Pure: nothing here looks at a node. hpcstate/probe/registry.py reads one, hpcstate/registry_scripts.py changes
one, hpcstate/registry_difference.py says how one differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from hpcstate.errors import HpcstateError
from hpcstate.model.container import Category, ContainerSettings
from hpcstate.render import render

ROOT = "/opt/containers"
META = f"{ROOT}/.registry"
CATALOG = f"{META}/catalog.yaml"
CONFIG = f"{META}/config.yaml"
DIGESTS = f"{META}/digests"
INCOMING = f"{META}/incoming"

CATEGORIES: tuple[Category, ...] = get_args(Category)
OWNER = "root:slurm"
DIRECTORY_MODE = "755"
FILE_MODE = "644"
INCOMING_MODE = "700"
INCOMING_OWNER = "root:root"

SHORT = 12
"""How many digits of the digest are in a file's name."""

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+]{0,31}")
"""A version has no hyphen, so that the name of a file can be taken apart again."""

_FILE = re.compile(
    rf"(?P<name>{NAME.pattern})-(?P<version>{VERSION.pattern})-(?P<digest>[0-9a-f]{{{SHORT}}})\.sif"
)


@dataclass(frozen=True)
class Stored:
    """One .sif of the registry. ``digest`` is its sha256 (64 hex digits), ``size`` is in bytes.

    ``signed``: its signature was verified with the project's key before it got its name. ``deployed`` is when
    (ISO 8601, with the offset). ``nodes`` are those that it was deployed to; empty means every node.
    """

    name: str
    category: Category
    version: str
    digest: str
    size: int
    signed: bool
    deployed: str
    nodes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Its path below the registry."""
        return f"{self.category}/{self.name}-{self.version}-{self.digest[:SHORT]}.sif"

    @property
    def link(self) -> str:
        """The path below the registry by which users know the current version."""
        return f"{self.category}/{self.name}.sif"

    def is_on(self, node: str) -> bool:
        """Whether ``node`` should have it."""
        return not self.nodes or node in self.nodes


def is_container_file(path: str) -> bool:
    """Whether ``path`` (below the registry) has a name that a deploy would have given to it."""
    category, _, file = path.partition("/")
    return category in CATEGORIES and _FILE.fullmatch(file) is not None


@dataclass(frozen=True)
class Catalog:
    """What lies in the registry of the whole cluster: the same on all nodes.

    ``current`` is the path of the current version by the container's name; every name has one.
    """

    stored: tuple[Stored, ...] = ()
    current: tuple[tuple[str, str], ...] = ()

    def of(self, name: str) -> tuple[Stored, ...]:
        """The versions of the container ``name``, in the order in which they were deployed."""
        return tuple(one for one in self.stored if one.name == name)

    def is_current(self, one: Stored) -> bool:
        """Whether ``one`` is what its name stands for."""
        return (one.name, one.file) in self.current

    def is_everywhere(self, one: Stored) -> bool:
        """Whether ``one`` is current, and every node should have it."""
        there = next((known for known in self.stored if known.file == one.file), None)
        return there is not None and self.is_current(there) and not there.nodes

    def with_current(self, new: Stored) -> Catalog:
        """This catalog with ``new`` as the current version of its name.

        What is in it already keeps the time of its first deploy. Nodes are added to those it has; a deploy
        to all nodes is one to all nodes for good.
        """
        known = next((one for one in self.stored if one.file == new.file), None)
        if known is not None:
            nodes = tuple(sorted({*known.nodes, *new.nodes})) if known.nodes and new.nodes else ()
            new = replace(new, deployed=known.deployed, nodes=nodes)
        # The versions of a name stay in the order of their first deploy; names are sorted.
        others = [new if one.file == new.file else one for one in self.stored]
        stored = others if known is not None else [*others, new]
        current = {**dict(self.current), new.name: new.file}
        return Catalog(tuple(sorted(stored, key=lambda one: one.name)), tuple(sorted(current.items())))

    def without(self, files: Iterable[str]) -> Catalog:
        """This catalog without ``files``. Raises ValueError for one that is current."""
        gone = set(files)
        if gone & {file for _, file in self.current}:
            raise ValueError("a current version is never taken out of the catalog")
        return Catalog(tuple(one for one in self.stored if one.file not in gone), self.current)

    def on(self, node: str) -> tuple[Stored, ...]:
        """What ``node`` should have."""
        return tuple(one for one in self.stored if one.is_on(node))

    def links_on(self, node: str) -> dict[str, str]:
        """The links that ``node`` should have: path below the registry to the target, which is in the same
        folder."""
        return {
            one.link: one.file.partition("/")[2]
            for one in self.stored
            if self.is_current(one) and one.is_on(node)
        }


def folders() -> dict[str, tuple[str, str]]:
    """The folders of a registry in the order in which they are made: path to mode and owner."""
    usual = (DIRECTORY_MODE, OWNER)
    return {
        ROOT: usual,
        **{f"{ROOT}/{category}": usual for category in CATEGORIES},
        META: usual,
        INCOMING: (INCOMING_MODE, INCOMING_OWNER),
    }


def config_text(cluster_name: str, settings: ContainerSettings) -> str:
    """The content of config.yaml."""
    return render(
        "apptainer/registry-config.yaml.j2",
        cluster_name=cluster_name,
        root=ROOT,
        categories=CATEGORIES,
        require_signature=settings.require_signature,
        declared=settings.deploy,
    )


def is_our_link(link: str, target: str) -> bool:
    """Whether a deploy made this link: its target is a version of the name it has, in its own folder."""
    category, _, file = link.partition("/")
    match = _FILE.fullmatch(target)
    return category in CATEGORIES and match is not None and file == f"{match['name']}.sif"


@dataclass(frozen=True)
class Kept:
    """A version that a prune leaves, and why."""

    stored: Stored
    why: str


def prune(
    catalog: Catalog, uses: Mapping[str, str], keep: int
) -> tuple[tuple[Stored, ...], tuple[Kept, ...]]:
    """What of ``catalog`` may be removed, and what stays and why.

    The current version of each name stays, and the ``keep`` latest before it, and what ``uses`` names: file
    below the registry to who uses it.
    """
    if keep < 0:
        raise HpcstateError("--keep is a number of versions, 0 or more")
    remove, stay = [], []
    for name in dict.fromkeys(one.name for one in catalog.stored):
        older = [one for one in catalog.of(name) if not catalog.is_current(one)]
        latest = {one.file for one in older[len(older) - keep :]} if keep else set()
        for one in catalog.of(name):
            if catalog.is_current(one):
                stay.append(Kept(one, "current"))
            elif one.file in uses:
                stay.append(Kept(one, f"in use by {uses[one.file]}"))
            elif one.file in latest:
                stay.append(Kept(one, f"one of the latest {keep} before the current one (--keep)"))
            else:
                remove.append(one)
    return tuple(remove), tuple(stay)
