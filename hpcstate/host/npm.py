"""Files out of packages of the npm registry that tools.toml pins: for pages that nodes serve.

A package is one file, fetched by apt's own helper, so that its proxies apply, kept below ``build/tools`` and
compared with its sha256 at every use. No npm, no dependencies, and nothing of it is run here. A site with a
registry of its own names it as npm has it, in ``npm_config_registry``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import alone
from hpcstate.host.tools import TOOLS_FILE
from hpcstate.paths import TOOLS
from hpcstate.run import run

REGISTRY = "https://registry.npmjs.org"
SECONDS = 15
"""How long the registry may be silent: a deploy waits for it."""

_HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class NpmPackage:
    """A package at one version: ``tarball`` is its file below the registry's address, ``licence`` by SPDX."""

    name: str
    why: str
    version: str
    tarball: str
    sha256: str
    licence: str


def load(path: Path = TOOLS_FILE) -> Mapping[str, NpmPackage]:
    """The packages by their names. Raises HpcstateError when the file is not TOML or lacks a key."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))["npm"]
        return {name: NpmPackage(**{**entry, "name": name}) for name, entry in found.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise HpcstateError(f"not as expected: {error}", where=f"{path}: npm") from error


def texts(
    package: NpmPackage,
    names: Sequence[str],
    *,
    tools: Path = TOOLS,
    environ: Mapping[str, str] = os.environ,
) -> Mapping[str, str]:
    """The text files ``names`` of ``package``, by these names (``dist/uPlot.min.css``).

    Raises HpcstateError when it is not here and cannot be fetched, when it is another file than the pinned
    one, which is not kept, or when it lacks one of them.
    """
    file = tools / Path(package.tarball).name
    if not _is(file, package):
        tools.mkdir(parents=True, exist_ok=True)
        with alone(tools):
            # Somebody else may have fetched it while this run waited.
            if not _is(file, package):
                _fetch(package, file, environ.get("npm_config_registry") or REGISTRY)
    found = {}
    try:
        with tarfile.open(file, "r:gz") as archive:
            for name in names:
                stream = archive.extractfile(f"package/{name}")
                if stream is None:
                    raise KeyError(f"{name} is no file")
                found[name] = stream.read().decode()
    except (OSError, tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        raise HpcstateError(f"not as expected: {error}", where=str(file)) from error
    return found


def _fetch(package: NpmPackage, file: Path, registry: str) -> None:
    address = f"{registry.rstrip('/')}/{package.tarball}"
    where = f"tools.toml: npm.{package.name}"
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{package.name}-") as scratch:
        fresh = Path(scratch) / "package.tgz"
        options = (
            f"-oAcquire::{kind}::{key}={value}"
            for kind in ("http", "https")
            for key, value in (("Timeout", SECONDS), ("ConnectionAttemptDelayMsec", 250))
        )
        done = run([_HELPER, *options, "-oAcquire::Retries=0", "download-file", address, fresh], check=False)
        if done.code != 0:
            said = " ".join(done.stderr.split())[-300:]
            raise HpcstateError(
                f"{address} could not be fetched: {said}",
                where=where,
                hint="is the network there? npm_config_registry names a registry of the site's own; "
                f"or put that file at {file}",
            )
        if not _is(fresh, package):
            raise HpcstateError(
                f"{address} is another file than the one that was tested: its sha256 is not the pinned one",
                where=where,
                hint="do not use it; a newer version needs version, tarball and sha256 in tools.toml",
            )
        # apt links a file of a registry on this machine (file:) instead of copying it.
        Path(shutil.copyfile(fresh, Path(scratch) / "copy.tgz")).replace(file)


def _is(file: Path, package: NpmPackage) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256
    except OSError:
        return False
