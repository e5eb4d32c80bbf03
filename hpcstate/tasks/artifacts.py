"""What doit is told of tasks that make an artifact: when there is something to do, why, of which files, and
which of them are made anew though they are current.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doit import get_var

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.errors import HpcstateError

FAMILIES = ("build_images", "build_containers", "seed")
"""The tasks that make artifacts. A name alone means the first that has it."""

REBUILD = "rebuild"
"""The variable that names what is made anew: ``doit rebuild=hpc-base``."""


def made_by_tasks() -> list[str]:
    """The tasks that make an artifact, by their whole names."""
    from hpcstate.image import declared

    containers = [f"build_containers:{name}" for name in paths.container_names()]
    images = declared.names()
    return [f"build_images:{name}" for name in images] + containers + [f"seed:{name}" for name in images]


def asked_anew(text: str) -> list[str]:
    """The tasks that ``rebuild=text`` means: names with commas between. Raises HpcstateError for another."""
    tasks = made_by_tasks()
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        meant = [task for task in tasks if word in (task, task.partition(":")[2])]
        if not meant:
            raise HpcstateError(
                f"{REBUILD}={word}: there is no such image or container",
                hint=f"there are: {', '.join(tasks)}",
            )
        found.append(meant[0])
    return found


def anew(task: str) -> bool:
    """Whether ``task`` makes its artifact though it is current: it was named, or forgotten."""
    return task in asked_anew(get_var(REBUILD, "") or "")


@dataclass(frozen=True)
class Current:
    """doit's condition for ``task``, which provides what ``recipe`` makes: there is nothing to do. As text
    (for `doit info`) it says why there is. ``unneeded`` is another reason to do nothing.
    """

    task: str
    recipe: Callable[[], Recipe]
    unneeded: Callable[[], bool] = bool

    def __call__(self) -> bool:
        """False, too, where nobody can tell: the action then says why."""
        try:
            recipe = self.recipe()
            return not anew(self.task) and not recipe.forgotten and (self.unneeded() or recipe.current)
        except HpcstateError:
            return False

    def __str__(self) -> str:
        try:
            return "; ".join(why(self.recipe(), asked=anew(self.task)))
        except HpcstateError as error:
            return str(error)


def why(recipe: Recipe, *, asked: bool = False) -> list[str]:
    """Why ``recipe`` has something to do, nothing where it has not."""
    shown = paths.shown(recipe.path)
    reasons = [f"{REBUILD}= names it"] if asked else []
    if recipe.forgotten:
        reasons.append(f"{shown} was forgotten, and is made anew")
    elif recipe.state == "missing":
        reasons.append(f"{shown} is not there")
    elif recipe.state == "outdated":
        changed = differences(recipe)
        of = f"of others: {', '.join(changed)}" if changed else "changed since, or of an earlier version"
        reasons.append(f"{shown} is {of}")
    return reasons


def differences(recipe: Recipe) -> tuple[str, ...]:
    """The inputs that are others than those that the artifact was made of; of tables of files, the files."""
    from hpcstate.cluster.plan import changed_inputs

    before = recipe.made
    return changed_inputs(before.inputs, recipe.made_of) if before else ()


def files(recipe: Recipe) -> list[str]:
    """The files of the project that decide about the artifact, from the project's root."""
    return sorted({paths.shown(path) for path in _files(recipe.made_of)})


def _files(inputs: Mapping[str, Any]) -> Iterator[Path]:
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from _files(value)
            continue
        places = (paths.ROOT / name, paths.CONTAINERS / name)
        yield from (path for path in places if "/" in name and path.is_file())


@dataclass(frozen=True)
class MadeOf:
    """For `doit info`, which shows what a task has in ``meta``: the artifact, its state and its files, those
    that decide ``through`` another artifact among them."""

    recipe: Callable[[], Recipe]
    through: tuple[Callable[[], Recipe], ...] = ()

    def files(self) -> list[str]:
        """From the project's root, in order. Raises HpcstateError where nobody can tell."""
        return sorted({name for made in (self.recipe, *self.through) for name in files(made())})

    def __repr__(self) -> str:
        try:
            recipe = self.recipe()
            lines = [f"{paths.shown(recipe.path)} ({recipe.state})", *self.files()]
        except HpcstateError as error:
            lines = [str(error)]
        return "\n".join((lines[0], *(f" - {line}" for line in lines[1:])))


def described(recipe: Callable[[], Recipe], *through: Callable[[], Recipe]) -> dict[str, Any]:
    """The parts of a task that only tell: ``meta`` for `doit info`, and for `doit list --deps` ``file_dep``.

    Not when tasks run: doit would take another comment in a file for a change, and hash every file.
    """
    words = sys.argv[1:]
    made_of = MadeOf(recipe, through)
    found: dict[str, Any] = {"meta": {"made of": made_of}}
    if "list" in words and "--deps" in words and not {"-s", "--status"} & {*words}:
        try:
            found["file_dep"] = made_of.files()
        except HpcstateError as error:
            print(f"doit: {error}", file=sys.stderr)
    return found


def tell_current(task: str, recipe: Recipe) -> bool:
    """Whether ``task`` runs though its artifact is current (`doit -a`): then it is said, with how to have it
    made anew."""
    if anew(task) or not recipe.current:
        return False
    print(
        f"    {paths.shown(recipe.path)} is current: not made again. `doit {task} {REBUILD}={task}` does "
        f"that,\n    and so does the next run after `doit forget {task}`",
        flush=True,
    )
    return True
