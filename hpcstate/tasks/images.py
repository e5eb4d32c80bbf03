"""The images: a seed each (mmdebstrap), then Packer. An image that a store has needs no seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.image import declared, packer, seed
from hpcstate.tasks.graph import action, condition
from hpcstate.terminal import stage

Task = dict[str, Any]


def task_seed() -> Iterator[Task]:
    """build the seed of an image with mmdebstrap"""
    for name in declared.names():
        yield {
            "name": name,
            "actions": [(_build_seed, [name])],
            "uptodate": [(_seed_not_needed, [name])],
            "clean": [(_clean_seed, [name])],
            "verbosity": 2,
        }


def task_build_images() -> Iterator[Task]:
    """build the images of the nodes (hpc-base.qcow2, cloud-base.qcow2)"""
    for name in declared.names():
        yield {
            "name": name,
            "actions": [(_build_image, [name])],
            "uptodate": [(_image_current, [name])],
            "task_dep": [f"seed:{name}"],
            "clean": [(_clean_image, [name])],
            "verbosity": 2,
        }


def _seed(name: str) -> Recipe:
    return seed.recipe(declared.load(name))


def _image(name: str) -> Recipe:
    return packer.recipe(declared.load(name), Store.default())


@condition
def _image_current(name: str) -> bool:
    return _image(name).current


@condition
def _seed_not_needed(name: str) -> bool:
    made = _image(name)
    return made.current or made.stored(Store.default()) or _seed(name).current


@action
def _build_seed(name: str) -> None:
    packages = len(declared.load(name).package_names)
    with stage(f"seed {name}", f"mmdebstrap, {packages} packages and what they need"):
        _seed(name).provide(Store.default())


@action
def _build_image(name: str) -> None:
    recipe, store = _image(name), Store.default()
    built = f"Packer boots the seed and runs {declared.load(name).deploy} in build mode"
    with stage(f"image {name}", "from the store" if recipe.stored(store) else built):
        manifest = recipe.provide(store)
    print(f"    {paths.shown(recipe.path)}: {manifest.size / 1e6:.0f} MB, {manifest.key[:12]}")


def _clean_seed(name: str) -> None:
    _seed(name).clean()


def _clean_image(name: str) -> None:
    _image(name).clean()
