"""The containers in the registries: those declared are everywhere, and all is as the one catalog says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hpcstate import paths
from hpcstate.artifact.store import Manifest
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live
from hpcstate.probe.registry import RegistryState
from hpcstate.registry import difference as registry_difference
from hpcstate.registry.layout import CATALOG, DIGESTS, ROOT, Catalog
from hpcstate.registry.look import difference
from hpcstate.registry.transfer import megabytes
from tests.suites.breaking import Edit, append, edited, last_worker
from tests.suites.registry_state import (
    NodeRegistry,
    declared,
    own,
    replaced,
)

_NEXT = "`hpcstate container deploy FILE --resume` brings the nodes into step"
_CONTAINERS = ("mpi-minimal",)


def test_declared(
    cluster: Cluster,
    registries: Mapping[str, NodeRegistry],
    controllers_catalog: Catalog,
    record_property: RecordProperty,
) -> None:
    """Every container that the cluster file names is whole on every node, under its own name"""
    names = cluster.containers.deploy
    found = []
    for name in names:
        current = [
            stored for stored in controllers_catalog.of(name) if controllers_catalog.is_current(stored)
        ]
        if not current:
            found.append(f"{name} is not in the catalog")
            continue
        (stored,) = current
        manifest = Manifest.read(paths.sidecar(paths.container(name)))
        if manifest is not None and manifest.digest != stored.digest:
            found.append(
                f"{name} was deployed with the digest {stored.digest[:12]}, built is {manifest.digest[:12]}"
            )
        for node, there in registries.items():
            file = there.state["files"].get(stored.file)
            if file is None:
                found.append(f"{node}: {stored.file} is missing")
            elif (file["size"], file["sha256"]) != (stored.size, stored.digest):
                found.append(
                    f"{node}: {stored.file} is damaged: {file['size']} bytes of {file['sha256'][:12]}"
                )
            target = there.state["links"].get(stored.link)
            if target != stored.file.partition("/")[2]:
                found.append(f"{node}: {stored.link} leads to {target or 'nothing'}")
    if found:
        raise CheckFailed("the declared containers on every node", "; ".join(found), _NEXT)
    if not names:
        record_property("observed", "the cluster file declares no container")
        return
    record_property("observed", f"{', '.join(names)} on {len(registries)} nodes")


def test_files(
    cluster: Cluster,
    registries: Mapping[str, NodeRegistry],
    controllers_catalog: Catalog,
    record_property: RecordProperty,
) -> None:
    """Every container in the catalog has its size, digest, mode, owner and link on every node"""
    found = []
    for node, there in registries.items():
        every = difference(cluster, controllers_catalog, node, there.state)
        # Folders, configuration, strangers and catalogs have checks of their own.
        files_only = replace(every, layout=(), config=False, unknown=(), catalog=False)
        found += [f"{node}: {text}" for text in registry_difference.findings(files_only, there.state)]
    if found:
        raise CheckFailed("the containers as the catalog has them", "; ".join(found), _NEXT)
    size = sum(stored.size for stored in controllers_catalog.stored)
    record_property(
        "observed",
        f"{len(controllers_catalog.stored)} versions, {megabytes(size)}, on {len(registries)} nodes",
    )


def test_known(
    cluster: Cluster,
    registries: Mapping[str, NodeRegistry],
    controllers_catalog: Catalog,
    record_property: RecordProperty,
) -> None:
    """Nothing lies in a registry that its catalog does not name"""
    found = [
        f"{node}: {path}"
        for node, there in registries.items()
        for path in difference(cluster, controllers_catalog, node, there.state).unknown
    ]
    if found:
        raise CheckFailed(
            "only what was deployed",
            "; ".join(found),
            "`hpcstate container deploy FILE PATH.sif` brings a file in properly; then remove this one",
        )
    record_property("observed", f"{len(registries)} registries have nothing else")


def test_catalog(
    controller: Node,
    registries: Mapping[str, NodeRegistry],
    controllers_catalog: Catalog,
    record_property: RecordProperty,
) -> None:
    """All nodes have the same catalog, and it can be read"""
    texts = {name: there.state["catalog"] for name, there in registries.items()}
    first = texts[controller.name]
    if other := [name for name, text in texts.items() if text != first]:
        raise CheckFailed(f"the controller's {CATALOG}", f"another one on {', '.join(other)}", _NEXT)
    record_property(
        "observed",
        f"{len(controllers_catalog.stored)} versions of {len(controllers_catalog.current)} containers, "
        f"on {len(texts)} nodes",
    )


def test_content(
    rehashed: Mapping[str, RegistryState], controllers_catalog: Catalog, record_property: RecordProperty
) -> None:
    """The bytes of every container are those of its digest: all of them hashed, no record trusted"""
    found, count, size = [], 0, 0
    for node, state in rehashed.items():
        for stored in controllers_catalog.on(node):
            there = state["files"].get(stored.file)
            count, size = count + 1, size + (there["size"] if there else 0)
            if there is None or there["sha256"] != stored.digest:
                found.append(f"{node}: {stored.file} has {there['sha256'][:12] if there else 'nothing'}")
    if found:
        raise CheckFailed(
            "files with the digests of the catalog",
            "; ".join(found),
            "the disk, or somebody, changed them: `hpcstate container deploy FILE --resume --verify`",
        )
    record_property("observed", f"{count} files, {megabytes(size)} hashed")


@fault(
    "a container is missing on a node",
    "container-registry.declared",
    "container-registry.files",
    needs_containers=_CONTAINERS,
)
def missing(live: Live) -> Iterator[None]:
    with replaced(live, last_worker(live).name, declared(live)[0], ":"):
        yield


@fault(
    "a container on a node was cut off",
    "container-registry.declared",
    "container-registry.files",
    needs_containers=_CONTAINERS,
)
def truncated(live: Live) -> Iterator[None]:
    by = f"head -c 1000 $kept >$file; {own('$file')}"
    with replaced(live, last_worker(live).name, declared(live)[0], by):
        yield


@fault(
    "a container on a node has other bytes, and as many",
    "container-registry.declared",
    "container-registry.files",
    needs_containers=_CONTAINERS,
)
def changed(live: Live) -> Iterator[None]:
    with replaced(live, last_worker(live).name, declared(live)[0], f"{_OTHER_BYTES}; {own('$file')}"):
        yield


_OTHER_BYTES = (
    "cp $kept $file; "
    "printf hpcstate-changed | dd of=$file bs=1 seek=$(($(stat -c %s $file) / 2)) conv=notrunc status=none"
)
"""Some bytes in the middle are others."""


@fault(
    "a container on a node has other bytes, and its record says otherwise",
    "container-registry.content",
    needs_containers=_CONTAINERS,
)
def changed_with_its_record(live: Live) -> Iterator[None]:
    """What a disk does that loses bits, and what somebody with root does who knows of the record."""
    stored, node = declared(live)[0], last_worker(live).name
    folder, _, name = stored.file.partition("/")
    find = f"find {ROOT}/{folder} -name {name} -printf '{stored.digest} %s %i %T@ {folder}/%P\\n'"
    record = f"cp -a {DIGESTS} {DIGESTS}.kept; grep -v ' {stored.file}$' {DIGESTS}.kept >{DIGESTS} || :"
    by = f"{_OTHER_BYTES}; {own('$file')}; {record}; {find} >>{DIGESTS}"
    try:
        with replaced(live, node, stored, by):
            yield
    finally:
        live.run(node, f"[ ! -e {DIGESTS}.kept ] || mv -f {DIGESTS}.kept {DIGESTS}", user="root")


@fault(
    "the name of a container leads to nothing on a node",
    "container-registry.declared",
    "container-registry.files",
    needs_containers=_CONTAINERS,
)
def other_link(live: Live) -> Iterator[None]:
    stored, node = declared(live)[0], last_worker(live).name
    link, target = f"{ROOT}/{stored.link}", stored.file.partition("/")[2]
    try:
        live.run(node, f"ln -sfn gone.sif {link}", user="root")
        yield
    finally:
        live.run(node, f"ln -sfn {target} {link}", user="root")


@fault("a .sif that nobody deployed lies on a node", "container-registry.known")
def extra(live: Live) -> Iterator[None]:
    node, file = last_worker(live).name, f"{ROOT}/custom-images/hpcstate-extra.sif"
    try:
        live.run(node, f"echo extra >{file}", user="root")
        yield
    finally:
        live.run(node, f"rm -f {file}", user="root")


@fault("the catalog of a node is another one", "container-registry.catalog")
def other_catalog(live: Live) -> Iterator[None]:
    node = last_worker(live).name
    # A cluster without containers may have no catalog at all.
    live.run(node, f"[ -e {CATALOG} ] || : >{CATALOG}", user="root")
    with edited(live, [Edit(node, CATALOG, append("# by hand"))]):
        yield
