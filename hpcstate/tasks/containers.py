"""The containers: the tools root that Apptainer runs in, then a .sif for each folder of containers/."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

from hpcstate import paths
from hpcstate.artifact.recipe import clean_work, current, provide
from hpcstate.artifact.store import Store
from hpcstate.container import declared as container
from hpcstate.digest import key_of
from hpcstate.tasks.steps import action, condition
from hpcstate.terminal import stage

Task = dict[str, Any]


def task_build_containers() -> Iterator[Task]:
    """build, sign and try the containers (.sif) of containers/"""
    for name in paths.container_names():
        yield {
            "name": name,
            "actions": [(_build, [name])],
            "uptodate": [(_current, [name])],
            "clean": [(_clean, [name])],
            "verbosity": 2,
        }


@condition
def _current(name: str) -> bool:
    from hpcstate.container import build as container_build

    return current(paths.container(name), key_of(container_build.inputs(container.load(name))))


@action
def _build(name: str) -> None:
    from hpcstate.container import build as container_build

    one, store = container.load(name), Store.default()
    with stage(f"container {name}", container_build.plan(one)):
        manifest = provide(
            paths.container(name),
            container_build.inputs(one),
            lambda target, work: container_build.make(
                one, target, work, store, lambda text: print(f"    {text}", flush=True)
            ),
            store=store,
        )
    shown = paths.shown(paths.container(name))
    print(f"    {shown}: {manifest.size / 1e6:.0f} MB, sha256 {manifest.digest[:12]}")


def _clean(name: str) -> None:
    target = paths.container(name)
    for path in (target, paths.sidecar(target)):
        path.unlink(missing_ok=True)
    clean_work(target)
    shutil.rmtree(target.parent / "layers", ignore_errors=True)
