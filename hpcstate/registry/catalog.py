"""catalog.yaml of the registry: what containers there are, by name. YAML with a schema.

What it looks like:

    schema: 1
    containers:
      pytorch-cpu-mpi:
        current: ml-frameworks/pytorch-cpu-mpi-1.0-0f3a5c….sif    what the name stands for
        versions:
        - file: ml-frameworks/pytorch-cpu-mpi-1.0-0f3a5c….sif     below the registry
          version: "1.0"
          digest: 0f3a5c…               sha256 of the file, 64 hex digits
          size: 280123456               bytes
          signed: yes                   verified with the project's key on every node that has it
          deployed: 2026-11-22T07:06:52+00:00
          nodes: [compute-01]           only where it was deployed to some of the nodes
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import strictyaml as sy

from hpcstate import yaml_files
from hpcstate.categories import CATEGORIES
from hpcstate.errors import HpcstateError
from hpcstate.model.container import NAME, VERSION
from hpcstate.registry.layout import CATALOG, Catalog, Stored

SCHEMA = 1
"""The version of the format. A catalog of another one is refused, not guessed at."""

_LARGEST = 1 << 19
"""Characters: far more than any registry needs."""

_MOST_ITEMS = 1000
"""Versions, and nodes of versions, together. strictyaml copies a list anew for each of its items
(CommentedSeq.__deepcopy__ of the ruamel.yaml in it): 1000 take half a minute at worst, 10 000 of the simplest
minutes, what fits into _LARGEST hours; and a node, which sends this, is only half trusted."""

_ITEM = re.compile(r"-\s")

_HEAD = "# Written by hpcstate when a container is deployed or pruned, last of all: what it names is there.\n"

_DIGEST = yaml_files.whole(r"[0-9a-f]{64}")
_FILE = yaml_files.whole(rf"({'|'.join(CATEGORIES)})/[A-Za-z0-9._+-]+")
_VERSION = sy.Map(
    {
        "file": _FILE,
        "version": yaml_files.whole(VERSION.pattern),
        "digest": _DIGEST,
        "size": sy.Int(),
        "signed": sy.Bool(),
        "deployed": sy.Str(),
        sy.Optional("nodes"): sy.Seq(yaml_files.whole(r"[A-Za-z0-9][A-Za-z0-9._-]*")),
    }
)
_CONTAINER = sy.Map({"current": _FILE, "versions": sy.Seq(_VERSION)})
_SCHEMA = sy.Map(
    {
        "schema": sy.Int(),
        "containers": sy.EmptyDict() | sy.MapPattern(yaml_files.whole(NAME.pattern), _CONTAINER),
    }
)


def write(catalog: Catalog) -> str:
    """``catalog`` as the content of catalog.yaml; equal catalogs give equal texts.

    Raises HpcstateError for one with more versions and nodes than ``parse`` takes.
    """
    text = _text(catalog)
    if too_many := _too_many(text):
        raise HpcstateError(
            f"the catalog would have {too_many}",
            where=CATALOG,
            hint="`hpcstate container prune` removes versions that nobody uses",
        )
    return text


def _text(catalog: Catalog) -> str:
    lines = [_HEAD.rstrip("\n"), f"schema: {SCHEMA}"]
    if not catalog.stored:
        return "\n".join([*lines, "containers:", ""])
    current = dict(catalog.current)
    lines.append("containers:")
    for name in dict.fromkeys(stored.name for stored in catalog.stored):
        versions = catalog.of(name)
        lines += [f"  {name}:", f"    current: {current[name]}", "    versions:"]
        for version in versions:
            lines += [
                f"    - file: {version.file}",
                f'      version: "{version.version}"',
                f"      digest: {version.digest}",
                f"      size: {version.size}",
                f"      signed: {'yes' if version.signed else 'no'}",
                f"      deployed: {version.deployed}",
            ]
            if version.nodes:
                lines += ["      nodes:", *(f"      - {node}" for node in version.nodes)]
    return "\n".join([*lines, ""])


def parse(text: str, where: str = CATALOG) -> Catalog:
    """The catalog that ``text`` is; an empty one for no text. ``where`` names the file in errors.

    Raises HpcstateError with the line where it is not one, and for contradictions that no schema sees.
    """
    if not text.strip():
        return Catalog()
    hint = "`hpcstate container deploy` writes it anew from what is sound elsewhere"
    if len(text) > _LARGEST:
        raise HpcstateError(f"the catalog has {len(text)} characters", where=where, hint=hint)
    if too_many := _too_many(text):
        raise HpcstateError(f"the catalog has {too_many}", where=where, hint=hint)
    data = yaml_files.load(text, _SCHEMA, where=where, hint=hint)
    if data["schema"] != SCHEMA:
        raise HpcstateError(
            f"the catalog has the format {data['schema']}, this hpcstate knows {SCHEMA}",
            where=where,
            hint="a newer hpcstate wrote it: use that one",
        )
    stored: list[Stored] = []
    current: dict[str, str] = {}
    for name, entry in data["containers"].items():
        versions = [_stored(name, version, where) for version in entry["versions"]]
        if entry["current"] not in [version.file for version in versions]:
            raise HpcstateError(f"the current version of {name} is none of its versions", where=where)
        if len({version.file for version in versions}) < len(versions):
            raise HpcstateError(f"a version of {name} is listed twice", where=where)
        stored += versions
        current[name] = entry["current"]
    return Catalog(tuple(sorted(stored, key=lambda version: version.name)), tuple(sorted(current.items())))


def _too_many(text: str) -> str:
    """How many items the lists in ``text`` have, in words; empty when they may be read."""
    items = len(_ITEM.findall(text))
    return f"{items} versions and nodes of versions, more than {_MOST_ITEMS}" if items > _MOST_ITEMS else ""


def _stored(name: str, version: dict[str, Any], where: str) -> Stored:
    try:
        datetime.fromisoformat(version["deployed"])
    except ValueError as error:
        raise HpcstateError(f"`deployed` of {name} is no time: {version['deployed']}", where=where) from error
    stored = Stored(
        name=name,
        category=version["file"].partition("/")[0],
        version=version["version"],
        digest=version["digest"],
        size=version["size"],
        signed=version["signed"],
        deployed=version["deployed"],
        nodes=tuple(version.get("nodes", ())),
    )
    if stored.file != version["file"]:
        raise HpcstateError(f"`file` is {version['file']} where it must be {stored.file}", where=where)
    return stored
