"""Building a container: its layers to a tree, the tree to a .sif that is the same bytes each time, signed and
tried before it counts as built.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.debian import EPOCH
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.container import (
    archive,
    environment,
    progress,
    refusal,
    routes,
    scriptlet,
    sif,
    signing,
    trial,
)
from hpcstate.container import credentials as container_credentials
from hpcstate.container import definition as container_definition
from hpcstate.container import toolbox as tools_root
from hpcstate.container.context import entries
from hpcstate.container.layers import layers
from hpcstate.container.routes import Source
from hpcstate.container.toolbox import Toolbox
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError
from hpcstate.files import remove_tree, unpack
from hpcstate.model.container import Container
from hpcstate.run import tail
from hpcstate.terminal import Say

SQUASH = ("-comp", "zstd", "-Xcompression-level", "9")
"""A little smaller than Apptainer's gzip in half its time (bench/containers.py, docs/containers.md). Times:
mksquashfs(1) takes them from SOURCE_DATE_EPOCH."""

BUILD_DATE = "2025-01-01T00:00:00Z"
"""EPOCH, as a label: Apptainer would put the time of the build there."""

_LABELLED = ("python:", "base:", "archive:")
"""Of the versions, those that are labels as they are: wheels, and what a route starts from."""

_WORK = "/work"
_TREE = "tree"
_FIRST = "first.sif"


def recipe(container: Container, store: Store, report: Say = print) -> Recipe:
    """How ``container`` is made; ``store`` is where its tools are looked for, ``report`` is told of each step
    that is done.
    """
    return Recipe(
        paths.container(container.name),
        lambda: inputs(container),
        lambda target: make(container, target, store, report),
    )


def inputs(container: Container) -> dict[str, Any]:
    """What ``container`` is made of, for its key. Raises HpcstateError when a file of it is missing."""
    return {
        "code": code_of("hpcstate.container.build"),
        "tools": tools_root.key(),
        "files": entries(container),
        "squash": list(SQUASH),
        "signed_by": signing.fingerprint(),
    }


def plan(container: Container) -> str:
    """In a few words, what a build of ``container`` does."""
    if container.route == "declared":
        wheels = f", the wheels of {container.wheels}" if container.wheels else ""
        return (
            f"Debian {container.release}, {len(container.package_names)} packages and what they need{wheels}"
        )
    if container.route == "converted":
        return f"from {container.image or container.archive}"
    stage = f", the stage {container.target}" if container.target else ""
    return f"from its {container.file}{stage}"


def make(container: Container, target: Path, store: Store, report: Say = print) -> dict[str, str]:
    """Build ``container`` at ``target`` and return the versions that went in; the folder of ``target`` is for
    what lies between, too, ``report`` is told of each step that is done.

    Raises HpcstateError with the failing step and its last lines, when the result is over its size limit, and
    when one of its tests fails.
    """
    if not (tools := tools_root.recipe()).current and not tools.stored(store):
        report(
            f"first the tools root, once for all containers: Apptainer in Debian {tools_root.RELEASE}, by"
            " mmdebstrap, a minute or two (one that is interrupted begins anew)"
        )
    work, toolbox = target.parent, tools_root.toolbox(store)
    if container.route == "declared":
        source = _declared(container, work, toolbox, store)
    else:
        source = routes.source(container, work, toolbox, report)
    own = labels(container, key_of(inputs(container)), source.versions)
    definition = routes.whole(source, own, container.environment, container.entry_point)
    write(definition, source, target, work, toolbox, report=report)
    # Before its tests: they need no second copy of it on the disk.
    remove_tree(work / _TREE)
    report(f"{target.name}: {target.stat().st_size / 1e6:.0f} MB")
    check_size(container, target)
    results = trial.run_tests(container, target, toolbox, report)
    if failed := [result for result in results if result.outcome == "failed"]:
        raise HpcstateError(
            "\n".join(f"the test {result.name!r} failed: {result.said}" for result in failed),
            where=f"containers/{container.name}",
            hint="the layers are kept: after mending, only what follows them is built again",
        )
    return source.versions


def write(
    definition: str,
    source: Source,
    target: Path,
    work: Path,
    toolbox: Toolbox,
    *,
    squash: Sequence[str] = SQUASH,
    report: Say = lambda _: None,
) -> None:
    """Make the signed .sif ``target`` of ``source`` by ``definition``: the same bytes for the same inputs.
    ``squash`` are the arguments of mksquashfs(1); without any, they are Apptainer's own.

    ``report`` is told of each phase, and what goes on in it. Raises HpcstateError with Apptainer's last lines
    and, of a %post that failed, with its line; and ProblemsError for a definition that would run a part
    of itself on this machine.
    """
    _apptainer_build(definition, source, target, work, toolbox, squash, source.variables, report)
    if source.variables is None and (again := _again(definition, source, target, work, toolbox)):
        first = target.replace(work / _FIRST)
        text = routes.whole(again, routes.labels_of(definition))
        _apptainer_build(text, again, target, work, toolbox, squash, again.variables, report)
        first.unlink()
    seal(target, toolbox)


def _again(definition: str, source: Source, target: Path, work: Path, toolbox: Toolbox) -> Source | None:
    """What ``target`` has to be made of once more, now that it is known what its image says; None where
    Apptainer's own conversion is right: each variable is plain, and it is to start in no folder of its own.
    """
    image = archive.image_config(sif.image_config(target))
    # How a definition of the user's runs, that says itself.
    runs = source.file is None and "\n%runscript\n" not in definition and image.folder not in ("", "/")
    if environment.is_plain(image.environment) and not runs:
        return None
    return Source(
        f"Bootstrap: localimage\nFrom: {toolbox.at(work / _FIRST, {work: _WORK})}\n",
        {},
        runscript=image.runscript() if runs else "",
        variables=image.environment,
        folder=image.folder if runs else "",
    )


def _apptainer_build(
    definition: str,
    source: Source,
    target: Path,
    work: Path,
    toolbox: Toolbox,
    squash: Sequence[str],
    variables: Sequence[str] | None,
    report: Say,
) -> None:
    """One run of ``apptainer build``; the ENV ``variables`` stand in the place of its own. Raises as
    :func:`write` does.
    """
    binds = {work: _WORK, **source.binds}
    if variables is not None:
        own = work / "environment.sh"
        own.write_text(environment.script(variables), encoding="utf-8")
        own.chmod(0o755)
        definition += f"\n%files\n    {toolbox.at(own, binds)} {environment.FILE}\n"
        if re.fullmatch(r"/[^\s\"'#{}]+", source.folder):
            # An image may name one that is not there: `docker run` makes it.
            empty = work / "empty"
            empty.mkdir(exist_ok=True)
            definition += f"    {toolbox.at(empty, binds)}/. {source.folder.rstrip('/')}/\n"
    container_definition.demand_harmless(definition, f"the definition of {target.name}")
    file, scratch = work / "container.def", work / "tmp"
    file.write_text(definition, encoding="utf-8")
    scratch.mkdir(exist_ok=True)
    words = ["build", "--force", "--fix-perms"]
    words += ["--mksquashfs-args", shlex.join(squash)] if squash else []
    fetched = container_definition.registries(definition.splitlines())
    credentials = container_credentials.write(fetched, work / "auth.json")
    if credentials:
        words += ["--authfile", toolbox.at(credentials, binds)]
    began, named = time.monotonic(), [""]
    try:
        with progress.followed(report) as heard:

            def told(line: str) -> None:
                phase = progress.phase(line)
                if phase and phase != named[0]:
                    named[0] = phase
                    report(f"{phase} ({time.monotonic() - began:.0f} s)")
                heard(line)

            done = toolbox.apptainer(
                [*words, toolbox.at(target, binds), toolbox.at(file, binds)],
                binds=binds,
                environment={**source.environment, "APPTAINER_TMPDIR": toolbox.at(scratch, binds)},
                check=False,
                on_line=told,
            )
    finally:
        if credentials:
            credentials.unlink()
    if done.code:
        hint = source.hint or "nothing half built stays; the next run goes on from the last good layer"
        if "no space left on device" in done.stderr.lower():
            hint = "free some space: a build needs room for the whole tree, and for the .sif"
        elif fetched and not scriptlet.ended(done.stderr):
            hint = refusal.next_step(done.stderr, fetched) or hint
        said = f"apptainer build exited with {done.code}:\n{tail(done.stderr)}"
        where = ""
        section = scriptlet.ended(done.stderr)
        if source.file and section:
            line, text = scriptlet.failing(source.file.read_text(errors="replace"), done.stderr)
            where = f"{paths.shown(source.file)}:{line}" if line else paths.shown(source.file)
            said = f"{section} failed at {text!r}:\n{tail(done.stderr)}" if text else said
        raise HpcstateError(said, where=where, hint=hint)


def seal(target: Path, toolbox: Toolbox) -> None:
    """Make ``target`` the same bytes for the same content, and sign it.

    The UUID is all zeros: what tells two containers apart is their digest. Signing writes times of its own,
    hence once more after it.
    """
    sif.forget_parents(target)
    sif.normalise(target, bytes(16), EPOCH)
    signing.sign(toolbox, target)
    sif.normalise(target, bytes(16), EPOCH)


def check_size(container: Container, target: Path) -> None:
    """Raises HpcstateError when ``target`` is larger than ``container`` may be."""
    size_mb = target.stat().st_size / 1e6
    if size_mb > container.size_limit_mb:
        raise HpcstateError(
            f"the container is {size_mb:.0f} MB large, its limit is {container.size_limit_mb} MB",
            where=f"containers/{container.name}/container.yaml .size_limit_mb",
            hint="leave packages out, `exclude` what nobody reads, or raise the limit",
        )


def labels(container: Container, key: str, versions: Mapping[str, str]) -> dict[str, str]:
    """The labels of the built container: what it is, where it comes from, and what was asked to be in it."""
    own = [name for name in container.package_names if name in versions]
    return {
        "org.label-schema.build-date": BUILD_DATE,
        "org.opencontainers.image.title": container.name,
        "org.opencontainers.image.version": container.version,
        "org.opencontainers.image.description": container.summary,
        "hpcstate.source": f"containers/{container.name}",
        "hpcstate.key": key,
        **{f"hpcstate.package.{name}": versions[name] for name in own},
        **{name: version for name, version in sorted(versions.items()) if name.startswith(_LABELLED)},
        **dict(container.labels),
    }


def _declared(container: Container, work: Path, toolbox: Toolbox, store: Store) -> Source:
    tree = work / _TREE
    versions = unpacked(container, tree, store)
    origin = toolbox.at(tree, {work: _WORK})
    return Source(f"Bootstrap: localimage\nFrom: {origin}\n", {}, versions=versions)


def unpacked(container: Container, tree: Path, store: Store) -> dict[str, str]:
    """Make the folder ``tree`` of the layers of ``container``, without what it excludes, and return the
    versions in it. Raises HpcstateError when a layer cannot be built, and for a wrong ``exclude``.
    """
    tars, versions = layers(container, store)
    tree.mkdir(mode=0o755)
    for tar in tars:
        unpack(tar, tree)
    _exclude(tree, container.exclude)
    return versions


def _exclude(tree: Path, patterns: tuple[str, ...]) -> None:
    """Remove what ``patterns`` name. A link of the tree may lead to this machine's own files (/var/run to
    /run): HpcstateError for a pattern that goes through one, or up.
    """
    root = tree.resolve()
    for pattern in patterns:
        found = list(tree.glob(pattern))
        if any(not path.parent.resolve().is_relative_to(root) or path.name == ".." for path in found):
            raise HpcstateError(
                f"`exclude` leads out of the container: {pattern}",
                hint="a part of it is a link: name what is excluded where it really lies",
            )
        if not found:
            raise HpcstateError(
                f"`exclude` names what is not there: {pattern}", hint="a new version may have it elsewhere"
            )
        for path in found:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()
