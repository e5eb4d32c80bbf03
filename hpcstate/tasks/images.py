"""The images: a seed each (mmdebstrap), then Packer. An image that a store has needs no seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.image import declared, packer, seed
from hpcstate.tasks.artifacts import Current, anew, described, tell_current
from hpcstate.tasks.graph import action
from hpcstate.terminal import stage

Task = dict[str, Any]


def task_seed() -> Iterator[Task]:
    """build the seed of an image with mmdebstrap"""
    for name in declared.names():
        yield {
            "name": name,
            "actions": [(_build_seed, [name])],
            "uptodate": [Current(f"seed:{name}", partial(_seed, name), partial(_needs_no_seed, name))],
            **described(partial(_seed, name)),
            "clean": [(_clean_seed, [name])],
            "verbosity": 2,
        }


def task_build_images() -> Iterator[Task]:
    """build the images of the nodes (hpc-base.qcow2, cloud-base.qcow2)"""
    for name in declared.names():
        yield {
            "name": name,
            "actions": [(_build_image, [name])],
            "uptodate": [Current(f"build_images:{name}", partial(_image, name))],
            **described(partial(_image, name), partial(_seed, name)),
            "task_dep": [f"seed:{name}"],
            "clean": [(_clean_image, [name])],
            "verbosity": 2,
        }


def _seed(name: str) -> Recipe:
    return seed.recipe(declared.load(name))


def _image(name: str) -> Recipe:
    return packer.recipe(declared.load(name), Store.default())


def _needs_no_seed(name: str) -> bool:
    made = _image(name)
    return not anew(f"build_images:{name}") and (made.current or made.stored(Store.default()))


@action
def _build_seed(name: str) -> None:
    task, recipe = f"seed:{name}", _seed(name)
    if not anew(task) and not recipe.forgotten and _needs_no_seed(name):
        print(f"    image {name} needs no seed: it is current, or in the store", flush=True)
        return
    if tell_current(task, recipe):
        return
    packages = len(declared.load(name).package_names)
    with stage(f"seed {name}", f"mmdebstrap, {packages} packages and what they need"):
        recipe.provide(Store.default(), anew=anew(task))


@action
def _build_image(name: str) -> None:
    task, recipe, store = f"build_images:{name}", _image(name), Store.default()
    if tell_current(task, recipe):
        return
    built = f"Packer boots the seed and runs {declared.load(name).deploy} in build mode"
    with stage(f"image {name}", "from the store" if recipe.stored(store) and not anew(task) else built):
        manifest = recipe.provide(store, anew=anew(task))
    print(f"    {paths.shown(recipe.path)}: {manifest.size / 1e6:.0f} MB, {manifest.key[:12]}")


def _clean_seed(name: str) -> None:
    _seed(name).clean()


def _clean_image(name: str) -> None:
    _image(name).clean()
