"""The registry of containers on every node of a Slurm cluster: its layout, what lies in it, and what differs.

    /opt/containers/                              root:slurm 755
        ml-frameworks/ custom-images/ base-images/
            <name>-<version>-<digest>.sif         root:slurm 644; the first 12 digits of its sha256
            <name>.sif -> the current one of them
        .registry/
            catalog.yaml                          what lies there (hpcstate/registry/catalog.py), written last
            config.yaml                           for people and programs on the node
            digests                               sha256, size, inode and time of what was verified
            incoming/                             what is on its way, root:root 700

Pure: nothing here looks at a node. hpcstate/probe/registry.py reads one, hpcstate/registry/scripts.py changes
one, hpcstate/registry/difference.py says how one differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hpcstate.categories import CATEGORIES, Category
from hpcstate.model.container import NAME, REGISTRY, VERSION, ContainerSettings
from hpcstate.render import render

ROOT = REGISTRY
META = f"{ROOT}/.registry"
CATALOG = f"{META}/catalog.yaml"
CONFIG = f"{META}/config.yaml"
DIGESTS = f"{META}/digests"
INCOMING = f"{META}/incoming"

OWNER = "root:slurm"
DIRECTORY_MODE = "755"
FILE_MODE = "644"
INCOMING_MODE = "700"
INCOMING_OWNER = "root:root"

SHORT = 12
"""How many digits of the digest are in a file's name."""

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
    return named(path) is not None


def named(path: str) -> tuple[Category, str, str, str] | None:
    """Category, name, version and short digest in ``path`` (below the registry); None for a stranger's."""
    folder, _, file = path.partition("/")
    match = _FILE.fullmatch(file)
    category = next((known for known in CATEGORIES if known == folder), None)
    return (category, match["name"], match["version"], match["digest"]) if category and match else None


@dataclass(frozen=True)
class Catalog:
    """What lies in the registry of the whole cluster: the same on all nodes.

    ``current`` is the path of the current version by the container's name; every name has one.
    """

    stored: tuple[Stored, ...] = ()
    current: tuple[tuple[str, str], ...] = ()

    def of(self, name: str) -> tuple[Stored, ...]:
        """The versions of the container ``name``, in the order in which they were deployed."""
        return tuple(stored for stored in self.stored if stored.name == name)

    def is_current(self, stored: Stored) -> bool:
        """Whether ``stored`` is what its name stands for."""
        return (stored.name, stored.file) in self.current

    def is_everywhere(self, stored: Stored) -> bool:
        """Whether ``stored`` is current, and every node should have it."""
        there = next((known for known in self.stored if known.file == stored.file), None)
        return there is not None and self.is_current(there) and not there.nodes

    def with_current(self, new: Stored) -> Catalog:
        """This catalog with ``new`` as the current version of its name.

        What is in it already keeps the time of its first deploy. Nodes are added to those it has; a deploy
        to all nodes is one to all nodes for good.
        """
        known = next((stored for stored in self.stored if stored.file == new.file), None)
        if known is not None:
            nodes = tuple(sorted({*known.nodes, *new.nodes})) if known.nodes and new.nodes else ()
            new = replace(new, deployed=known.deployed, nodes=nodes)
        # The versions of a name stay in the order of their first deploy; names are sorted.
        others = [new if version.file == new.file else version for version in self.stored]
        stored = others if known is not None else [*others, new]
        current = {**dict(self.current), new.name: new.file}
        return Catalog(
            tuple(sorted(stored, key=lambda version: version.name)), tuple(sorted(current.items()))
        )

    def without(self, files: Iterable[str]) -> Catalog:
        """This catalog without ``files``. A name whose current version goes stands for the latest of those
        that are left."""
        gone = set(files)
        stored = tuple(version for version in self.stored if version.file not in gone)
        latest = {version.name: version.file for version in stored}
        current = {
            name: latest[name] if file in gone else file for name, file in self.current if name in latest
        }
        return Catalog(stored, tuple(current.items()))

    def on(self, node: str) -> tuple[Stored, ...]:
        """What ``node`` should have."""
        return tuple(stored for stored in self.stored if stored.is_on(node))

    def current_on(self, node: str) -> dict[str, Stored]:
        """What each name stands for on ``node``: the current version where it should have that, else the
        latest of those that it should have (a newer one went to other nodes only)."""
        found: dict[str, Stored] = {}
        for stored in self.on(node):
            if stored.name not in found or not self.is_current(found[stored.name]):
                found[stored.name] = stored
        return found

    def links_on(self, node: str) -> dict[str, str]:
        """The links that ``node`` should have: path below the registry to the target, which is in the same
        folder."""
        return {stored.link: stored.file.partition("/")[2] for stored in self.current_on(node).values()}


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
