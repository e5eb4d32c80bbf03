"""The layers of a declared container: its Debian packages, and its wheels on top.

Each is an artifact (a tar), so that a build that fails later goes on from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.debian import EPOCH, write_tar
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.container.declared import folder
from hpcstate.container.toolbox import entered
from hpcstate.digest import file_digest, key_of
from hpcstate.errors import HpcstateError
from hpcstate.files import alone, unpack
from hpcstate.host.environment import pip_program
from hpcstate.model.container import Container
from hpcstate.run import run

_COMPILE = "python3 -m compileall -qq -f --invalidation-mode unchecked-hash"
"""Compiled once and never looked at again: a container is read-only, and an import that has to compile takes
three times as long (PEP 552: these files do not depend on the time of the build). It exits with 1 for files
that are written for a newer Python, which packages bring along: they stay as they are."""

_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
_WHEELS = paths.BUILD / "containers" / "wheels"
"""Downloaded wheels, for all containers: what is there with the right digest is not fetched again."""


def layers(container: Container, store: Store) -> tuple[list[Path], dict[str, str]]:
    """The tars of ``container``, lowest first, and the versions in them; built where they are not there.

    Raises HpcstateError when a mirror, a package or a wheel fails, with the last lines of the tool.
    """
    chosen = recipes(container)
    versions: dict[str, str] = {}
    for recipe in chosen:
        versions |= recipe.provide(store).versions
    return [recipe.path for recipe in chosen], versions


def recipes(container: Container) -> list[Recipe]:
    """How each layer of ``container`` is made, lowest first. No store keeps them: they are part of it."""
    base, wheels = _path(container, "packages"), _path(container, "wheels")
    lowest = Recipe(
        base, lambda: base_inputs(container), lambda target: _make_base(container, target), keep=False
    )
    upper = Recipe(
        wheels,
        lambda: wheels_inputs(container),
        lambda target: _make_wheels(container, base, target),
        keep=False,
    )
    return [lowest, upper] if container.wheels else [lowest]


def base_inputs(container: Container) -> dict[str, Any]:
    """What the layer of Debian packages is made of, for its key."""
    code = code_of("hpcstate.container.layers")
    return {"code": code, "release": container.release, "packages": list(container.package_names)}


def wheels_inputs(container: Container) -> dict[str, Any]:
    """What the layer of wheels is made of, for its key."""
    return {
        "base": key_of(base_inputs(container)),
        "wheels": file_digest(folder(container.name) / container.wheels),
        "python": container.python,
    }


def _path(container: Container, layer: str) -> Path:
    # A folder each: what an interrupted build left beside an artifact is removed by the next one.
    return paths.container(container.name).parent / "layers" / layer / f"{layer}.tar"


def _make_base(container: Container, target: Path) -> dict[str, str]:
    compiled = f'if [ -x "$1/usr/bin/python3" ]; then chroot "$1" {_COMPILE} /usr/lib || :; fi'
    # Apptainer wants both to be there, to put the host's over them.
    empty = 'for name in hosts resolv.conf; do : >>"$1/etc/$name"; done'
    return write_tar(target, container.release, container.package_names, hooks=(compiled, empty))


def _make_wheels(container: Container, base: Path, target: Path) -> dict[str, str]:
    lock = folder(container.name) / container.wheels
    _download(container, lock)
    root = target.parent / "root"
    root.mkdir(mode=0o755)
    unpack(base, root)
    pip = pip_program()
    binds = {lock: "/mnt/requirements.lock", _WHEELS: "/mnt/wheels", pip.parent: "/mnt/pip.whl"}
    install = [
        f"python{container.python}",
        f"/mnt/pip.whl/{pip.name}",
        "install",
        "--quiet",
        "--no-index",
    ]
    install += ["--no-deps", "--no-compile", "--require-hashes", "--find-links", "/mnt/wheels"]
    install += [
        "--root-user-action",
        "ignore",
        "--disable-pip-version-check",
        *_system_packages(container),
    ]
    install += ["--no-cache-dir", "--requirement", "/mnt/requirements.lock"]
    run(entered(root, install, binds, writable=True), env=_INSIDE)
    compile_all = ["sh", "-c", f"{_COMPILE} /usr/local/lib || :"]
    run(entered(root, compile_all, {}, writable=True), env=_INSIDE)
    words: list[str | Path] = ["tar", "-C", root, "--create", "--file", target, "--sort=name"]
    words += [f"--mtime=@{EPOCH}", "--clamp-mtime", "--owner=0", "--group=0", "--numeric-owner"]
    run([*words, "--format=posix", "--pax-option=delete=atime,delete=ctime", "usr/local"])
    return _versions(lock.read_text(encoding="utf-8"))


_INSIDE: Mapping[str, str] = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    # The order of sets is part of compiled files.
    "PYTHONHASHSEED": "0",
}


def _system_packages(container: Container) -> list[str]:
    """Debian's Python of 3.11 and later refuses pip its place without this (PEP 668)."""
    return ["--break-system-packages"] if int(container.python.split(".")[1]) >= 11 else []


def _download(container: Container, lock: Path) -> None:
    """Fetch the wheels of ``lock`` by the host's pip and its settings; at first without ``index``."""
    words: list[str | Path] = [sys.executable, pip_program(), "download", "--quiet", "--no-deps"]
    words += ["--require-hashes", "--only-binary=:all:", "--implementation=cp", "--disable-pip-version-check"]
    words += [f"--python-version={container.python}", f"--dest={_WHEELS}", "--requirement", lock]
    words += [f"--platform={name}" for name in _PLATFORMS]
    with alone(_WHEELS):
        done = run(words, check=False)
        if done.code and container.index:
            done = run([*words, f"--extra-index-url={container.index}"], check=False)
    if done.code:
        last = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-8:])
        raise HpcstateError(
            f"the wheels could not be fetched:\n{last}",
            where=paths.shown(lock),
            hint="is the package index reachable? what was fetched is kept; the next run goes on from there",
        )


def _versions(lock: str) -> dict[str, str]:
    pinned = (line.split("==", 1) for line in lock.splitlines() if "==" in line and line[0].isalnum())
    return {f"python:{name}": version.split()[0] for name, version in pinned}
