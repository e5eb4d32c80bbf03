"""Whose an object of libvirt is: the mark that everything made for a cluster carries, and its owner.

The owner is a random number of the cluster, made at its first start and kept with its keys. A name says
nothing: two clones of the project may describe clusters of the same name on one host. Domains and networks
carry the mark as metadata in a namespace of our own (libvirt: formatdomain and formatnetwork, "General
metadata"); a storage pool has no place for any, so that its mark is a volume.
"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import write_atomically
from hpcstate.model import Cluster, Node
from hpcstate.node.secrets import close_key
from hpcstate.paths import ClusterPaths

NAMESPACE = "urn:hpcstate:mark"
PREFIX = "hpcstate"
_ELEMENT = f"{{{NAMESPACE}}}mark"

RECORD = "hpcstate.json"
"""The volume that says whose a storage pool is, and which volumes were made in it."""

RECORD_BYTES = 1 << 16
"""Its size: the record is written over in place, in one piece, and padded with blanks."""


@dataclass(frozen=True)
class Mark:
    """What an object says of itself. ``node`` is empty but for domains; ``file`` is the cluster file that it
    was made from, ``keys`` the folder with the keys of its nodes, both on the machine ``host``; ``since`` is
    the date and time (UTC) at which it was made or taken over.

    What libvirt does not see of a node, as the file had it when it last passed: ``named`` is ``yes`` where
    the file gave its name, ``no`` where its place did; ``simulated`` are its simulated GPUs. A domain from
    before these were noted has neither.
    """

    owner: str
    cluster: str
    node: str
    file: str
    keys: str
    host: str
    since: str
    named: str = ""
    simulated: str = ""

    def to_xml(self) -> str:
        """The one element below ``<metadata>`` that is ours."""
        ElementTree.register_namespace(PREFIX, NAMESPACE)
        return ElementTree.tostring(Element(_ELEMENT, self.to_dict()), encoding="unicode")

    def to_element(self) -> str:
        """The same without its namespace, which virDomainSetMetadata adds itself."""
        return ElementTree.tostring(Element("mark", self.to_dict()), encoding="unicode")

    def to_dict(self) -> dict[str, str]:
        """What is written: ``named`` and ``simulated`` only where they say something."""
        return {name: text for name, text in asdict(self).items() if text or name not in _NOTED}

    @classmethod
    def from_xml(cls, text: str) -> Mark | None:
        """The mark in the XML of a domain or network, or in the element alone; None when there is none."""
        root = ElementTree.fromstring(text)
        element = root if root.tag == _ELEMENT else root.find(f"metadata/{_ELEMENT}")
        return None if element is None else cls(**{name: element.get(name, "") for name in _FIELDS})

    def for_node(self, name: str, named: str = "", simulated: str = "") -> Mark:
        """The same mark on the domain of the node ``name``."""
        return replace(self, node=name, named=named, simulated=simulated)

    def of(self, node: Node) -> Mark:
        """The same mark on the domain of ``node``, as the file has it now."""
        return self.for_node(node.name, "yes" if node.named else "no", simulated_gpus(node))

    @property
    def origin(self) -> str:
        """Where it is from, as a person reads it: ``/home/ann/lab/gpu.yaml on ws1, since 2026-11-26``."""
        return (
            f"{self.file or 'an unknown file'} on {self.host or 'an unknown host'}, since {self.since[:10]}"
        )


_FIELDS = tuple(Mark.__dataclass_fields__)
_NOTED = ("named", "simulated")


def simulated_gpus(node: Node) -> str:
    """The simulated GPUs of ``node`` in a word, ``simulated:2``; empty without any."""
    gpus = node.simulated_gpus
    return f"{gpus.gres_type}:{gpus.count}" if gpus else ""


@dataclass(frozen=True)
class PoolRecord:
    """Whose a storage pool is, and the names of the ``volumes`` that were made in it."""

    mark: Mark
    volumes: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The content of the volume RECORD."""
        text = json.dumps({"mark": self.mark.to_dict(), "volumes": sorted(self.volumes)}, indent=1) + "\n"
        if len(text.encode()) > RECORD_BYTES:
            raise HpcstateError("too many volumes for the record of the storage pool", where=RECORD)
        return text.encode().ljust(RECORD_BYTES)

    @classmethod
    def from_bytes(cls, content: bytes) -> PoolRecord | None:
        """The record in the content of the volume; None where it is none."""
        try:
            found = json.loads(content)
            mark = Mark(**{name: str(found["mark"][name]) for name in _FIELDS if name not in _NOTED})
            return cls(mark, tuple(str(name) for name in found["volumes"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Stranger:
    """An object that stands where one of the cluster's would, and is not its own. ``mark`` is that of the
    cluster it belongs to, None when it carries none; ``ours_once`` when its UUID says that hpcstate made it,
    before there were marks.
    """

    kind: str
    name: str
    mark: Mark | None
    ours_once: bool = False

    @property
    def whose(self) -> str:
        """Whose it is, as a person reads it after the object's name."""
        if self.mark is not None:
            return f"made from {self.mark.origin}"
        if self.ours_once:
            return "made by hpcstate, with other keys than the ones here"
        return "not made by hpcstate"


def listed(strangers: Sequence[Stranger]) -> list[str]:
    """A line for each owner: ``domain gpu-controller, network gpu: made from …``."""
    of_owner: dict[str, list[str]] = {}
    for stranger in strangers:
        of_owner.setdefault(stranger.whose, []).append(f"{stranger.kind} {stranger.name}")
    return [f"{', '.join(names)}: {whose}" for whose, names in of_owner.items()]


def owner_of(cluster: Cluster) -> str:
    """The owner that the objects of ``cluster`` carry; empty before its first start.

    Raises HpcstateError when the file that keeps it cannot be read or holds something else.
    """
    path = ClusterPaths.of(cluster.name).owner
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (NotADirectoryError, IsADirectoryError) as error:
        raise HpcstateError(
            "this is no folder with the keys of a cluster",
            where=str(path.parent),
            hint="put the right one back; if it is lost for good, move what is there away",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise from_os(error) if isinstance(error, OSError) else _no_owner(cluster, path) from error
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise _no_owner(cluster, path) from None


def _no_owner(cluster: Cluster, path: Path) -> HpcstateError:
    return HpcstateError(
        "this is no owner: a UUID is expected",
        where=str(path),
        hint="put the right file back; or remove it: a new one is made, and what is in libvirt under the "
        f"names of {cluster.name} is taken over by `hpcstate adopt FILE`",
    )


def ensure_owner(cluster: Cluster) -> str:
    """The owner of ``cluster``, made when there is none yet."""
    owner = owner_of(cluster)
    at = ClusterPaths.of(cluster.name)
    if owner:
        close_key(at.owner)
    else:
        owner = str(uuid.uuid4())
        at.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(at.owner, owner + "\n", mode=0o600)
    return owner


def new_mark(cluster: Cluster, file: Path) -> Mark:
    """The mark of what is made now for ``cluster`` from ``file``, but for the node's name."""
    return Mark(
        owner=ensure_owner(cluster),
        cluster=cluster.name,
        node="",
        file=str(file.resolve()),
        keys=str(ClusterPaths.of(cluster.name).secrets.resolve()),
        host=socket.gethostname(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def refusal(cluster: Cluster, file: Path, strangers: Sequence[Stranger]) -> HpcstateError:
    """The error of a command that would have to touch ``strangers``: whose they are and what one can do."""
    lines = "\n".join(f"  {line}" for line in listed(strangers))
    return HpcstateError(
        f"what has the names of this cluster in libvirt is not its own, and stays as it is:\n{lines}",
        where=cluster.name,
        hint=_way_out(cluster, file, strangers),
    )


def _way_out(cluster: Cluster, file: Path, strangers: Sequence[Stranger]) -> str:
    other_name = f"give the cluster another name, subnet and bridge in {file}"
    if any(stranger.mark is None and not stranger.ours_once for stranger in strangers):
        return f"{other_name}; or remove or rename what hpcstate did not make yourself (virsh)"
    adopt = f"hpcstate adopt {file}"
    keys = next(
        (stranger.mark.keys for stranger in strangers if stranger.mark and _is_here(stranger.mark)), ""
    )
    at = ClusterPaths.of(cluster.name)
    if at.ssh_key.exists():
        return f"{other_name}; or take it over with the keys that are here: {adopt}"
    if keys and Path(keys).resolve() == at.secrets.resolve():
        return (
            f"it was made from here, and its keys and owner are gone: put {keys} back; or, to go on with new "
            f"keys and the same disks: {adopt} --lost-keys; or {other_name}"
        )
    if keys:
        return f"{other_name}; or take it over: {adopt} --keys {keys}"
    return (
        f"{other_name}; or take it over with a copy of its folder build/{cluster.name}/secrets: "
        f"{adopt} --keys FOLDER (where that is lost: --lost-keys)"
    )


def _is_here(mark: Mark) -> bool:
    """Whether the keys of ``mark`` are on this machine."""
    return mark.host == socket.gethostname() and bool(mark.keys)
