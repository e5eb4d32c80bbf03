"""The images: a seed each (mmdebstrap), then Packer. An image that a store has needs no seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcstate import paths
from hpcstate.artifact.recipe import clean_work, current, provide
from hpcstate.artifact.store import Store
from hpcstate.digest import key_of
from hpcstate.image import declared as image
from hpcstate.image import packer, seed
from hpcstate.image.inputs import inputs
from hpcstate.tasks.steps import action, condition
from hpcstate.terminal import stage

Task = dict[str, Any]


def task_seed() -> Iterator[Task]:
    """build the seed of an image with mmdebstrap"""
    for name in image.names():
        yield {
            "name": name,
            "actions": [(_build_seed, [name])],
            "uptodate": [(_seed_not_needed, [name])],
            "clean": [(_clean_seed, [name])],
            "verbosity": 2,
        }


def task_build_images() -> Iterator[Task]:
    """build the images of the nodes (hpc-base.qcow2, cloud-base.qcow2)"""
    for name in image.names():
        yield {
            "name": name,
            "actions": [(_build_image, [name])],
            "uptodate": [(_image_current, [name])],
            "task_dep": [f"seed:{name}"],
            "clean": [(_clean_image, [name])],
            "verbosity": 2,
        }


@condition
def _image_current(name: str) -> bool:
    spec = image.load(name)
    return current(spec.path, key_of(inputs(spec)))


@condition
def _seed_not_needed(name: str) -> bool:
    spec = image.load(name)
    key = key_of(inputs(spec))
    if current(spec.path, key) or Store.default().has(key):
        return True
    return current(spec.seed_path, key_of(seed.inputs(spec)))


@action
def _build_seed(name: str) -> None:
    spec = image.load(name)
    with stage(f"seed {name}", f"mmdebstrap, {len(spec.package_names)} packages and what they need"):
        provide(
            spec.seed_path,
            seed.inputs(spec),
            lambda target, work: seed.make(spec, target, work),
            store=Store.default(),
            keep=False,
        )


@action
def _build_image(name: str) -> None:
    spec, store = image.load(name), Store.default()
    with stage(f"image {name}", f"Packer boots the seed and runs {spec.deploy} in build mode"):
        manifest = provide(
            spec.path,
            inputs(spec),
            lambda target, work: packer.make(spec, target, work, store),
            store=store,
        )
    print(f"    {paths.shown(spec.path)}: {manifest.size / 1e6:.0f} MB, {manifest.key[:12]}")


def _clean_seed(name: str) -> None:
    _remove(image.load(name).seed_path)


def _clean_image(name: str) -> None:
    _remove(image.load(name).path)


def _remove(artifact: Any) -> None:
    for path in (artifact, paths.sidecar(artifact)):
        path.unlink(missing_ok=True)
    clean_work(artifact)
