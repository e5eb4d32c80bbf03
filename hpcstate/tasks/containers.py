"""The containers: the tools root that Apptainer runs in, then a .sif for each folder of containers/."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe, remove
from hpcstate.artifact.store import Store
from hpcstate.container import declared
from hpcstate.tasks.artifacts import Current, anew, described, tell_current
from hpcstate.tasks.graph import action
from hpcstate.terminal import stage

Task = dict[str, Any]


def task_build_containers() -> Iterator[Task]:
    """build, sign and try the containers (.sif) of containers/"""
    for name in paths.container_names():
        yield {
            "name": name,
            "actions": [(_build, [name])],
            "uptodate": [Current(f"build_containers:{name}", partial(_recipe, name))],
            **described(partial(_recipe, name)),
            "clean": [(_clean, [name])],
            "verbosity": 2,
        }


def _recipe(name: str) -> Recipe:
    from hpcstate.container import build

    return build.recipe(declared.load(name), Store.default(), lambda text: print(f"    {text}", flush=True))


@action
def _build(name: str) -> None:
    from hpcstate.container import build

    task, recipe = f"build_containers:{name}", _recipe(name)
    if tell_current(task, recipe):
        return
    with stage(f"container {name}", build.plan(declared.load(name))):
        manifest = recipe.provide(Store.default(), anew=anew(task))
    shown = paths.shown(recipe.path)
    print(f"    {shown}: {manifest.size / 1e6:.0f} MB, sha256 {manifest.digest[:12]}")


def _clean(name: str) -> None:
    # Without its declaration, which may be the reason.
    remove(paths.container(name))
    shutil.rmtree(paths.container(name).parent / "layers", ignore_errors=True)
