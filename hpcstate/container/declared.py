"""Containers: what containers/<name>/container.yaml declares, and the keys that follow from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import strictyaml as sy

from hpcstate import paths, yaml_files
from hpcstate.categories import CATEGORIES, DEFAULT_CATEGORY
from hpcstate.errors import HpcstateError
from hpcstate.model.container import (
    NAME,
    VERSION,
    BuildSecret,
    Container,
    ContainerTest,
    Route,
)

DEFINITION = "container.def"
DOCKERFILE = "Dockerfile"

_NAME = yaml_files.whole(NAME.pattern)
_PACKAGE = yaml_files.whole(r"[a-z0-9][a-z0-9.+-]*")
_FILE = yaml_files.whole(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_VARIABLE = yaml_files.whole(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = yaml_files.whole(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WORDS = sy.Seq(sy.Str())
_TEST = sy.Map(
    {
        "name": sy.Str(),
        "command": _WORDS,
        sy.Optional("script"): _FILE,
        sy.Optional("ranks"): sy.Int(),
        sy.Optional("expect"): sy.Str(),
        sy.Optional("needs_gpu"): sy.Bool(),
        sy.Optional("timeout_s"): sy.Int(),
    }
)
_SCHEMA = sy.Map(
    {
        "name": _NAME,
        "version": yaml_files.whole(VERSION.pattern),
        "summary": sy.Str(),
        sy.Optional("category", default=DEFAULT_CATEGORY): sy.Enum(CATEGORIES),
        sy.Optional("base"): sy.Map(
            {
                sy.Optional("release"): _PACKAGE,
                sy.Optional("image"): yaml_files.whole(
                    r"(docker|oras|library)://[^\s@]+@sha256:[0-9a-f]{64}"
                ),
                sy.Optional("archive"): _FILE,
            }
        ),
        sy.Optional("packages"): sy.MapPattern(_NAME, sy.Seq(_PACKAGE)),
        sy.Optional("wheels"): _FILE,
        sy.Optional("index"): sy.Url(),
        sy.Optional("file"): _FILE,
        sy.Optional("arguments"): sy.MapPattern(_VARIABLE, sy.Str()),
        sy.Optional("target"): yaml_files.whole(r"[A-Za-z0-9][A-Za-z0-9_.-]*"),
        sy.Optional("secrets"): sy.MapPattern(
            _SECRET,
            sy.Map(
                {
                    sy.Optional("file"): yaml_files.whole(r"[~/][^\s,=]*"),
                    sy.Optional("environment"): _VARIABLE,
                }
            ),
        ),
        sy.Optional("exclude"): sy.Seq(yaml_files.whole(r"[^/\s][^\s]*")),
        sy.Optional("python"): yaml_files.whole(r"3\.[0-9]{1,2}"),
        sy.Optional("environment"): sy.MapPattern(_VARIABLE, sy.Str()),
        sy.Optional("labels"): sy.MapPattern(yaml_files.whole(r"[A-Za-z0-9_.-]+"), sy.Str()),
        sy.Optional("entry_point"): _WORDS,
        sy.Optional("gpu"): sy.Bool(),
        sy.Optional("size_limit_mb"): sy.Int(),
        "tests": sy.Seq(_TEST),
    }
)
_EXAMPLE = "containers/mpi-minimal/container.yaml is an example"


def folder(name: str) -> Path:
    """Where the container ``name`` is declared."""
    return paths.CONTAINERS / name


def load(name: str) -> Container:
    """Read containers/<name>/container.yaml. Raises HpcstateError with file and line when it is wrong."""
    path = folder(name) / "container.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        known = ", ".join(paths.container_names())
        raise HpcstateError(
            f"no container is called {name!r}", where=paths.shown(path), hint=f"there are: {known}"
        ) from error
    except UnicodeDecodeError as error:
        raise HpcstateError(f"it is not UTF-8: {error}", where=paths.shown(path)) from error
    return parse(text, path)


def parse(text: str, path: Path) -> Container:
    """The container that ``text``, the content of ``path``, declares; the other files of its folder decide on
    the route. Raises HpcstateError with every contradiction in it.
    """
    where = paths.shown(path)
    data = yaml_files.load(text, _SCHEMA, where=where, hint=_EXAMPLE, flow_style=True)
    base = data.get("base", {})
    route, file = _route(path.parent, base, data.get("file", ""))
    found = Container(
        name=data["name"],
        version=data["version"],
        summary=" ".join(data["summary"].split()),
        category=data["category"],
        route=route,
        file=file,
        arguments=tuple(data.get("arguments", {}).items()),
        target=data.get("target", ""),
        secrets=tuple(BuildSecret(name, **said) for name, said in data.get("secrets", {}).items()),
        release=base.get("release", ""),
        image=base.get("image", ""),
        archive=base.get("archive", ""),
        package_names=tuple(sorted({name for list_ in data.get("packages", {}).values() for name in list_})),
        wheels=data.get("wheels", ""),
        index=data.get("index", ""),
        python=data.get("python", ""),
        exclude=tuple(data.get("exclude", ())),
        environment=tuple(data.get("environment", {}).items()),
        labels=tuple(data.get("labels", {}).items()),
        entry_point=tuple(data.get("entry_point", ())),
        tests=tuple(_test(entry) for entry in data["tests"]),
        gpu=data.get("gpu", False),
        size_limit_mb=data.get("size_limit_mb", Container.size_limit_mb),
    )
    if problems := _problems(found, path.parent, data.get("file", "")):
        raise HpcstateError("; ".join(problems), where=where, hint=_EXAMPLE)
    return found


def _route(at: Path, base: dict[str, str], file: str) -> tuple[Route, str]:
    """The route, and the Dockerfile or definition that it goes by: ``file``, or the usual names."""
    if file:
        return ("definition" if file.endswith(".def") else "dockerfile"), file
    if (at / DOCKERFILE).is_file():
        return "dockerfile", DOCKERFILE
    if (at / DEFINITION).is_file():
        return "definition", DEFINITION
    return ("declared" if "release" in base else "converted"), ""


def _test(entry: dict[str, Any]) -> ContainerTest:
    return ContainerTest(**{**entry, "command": tuple(entry["command"])})


def _problems(container: Container, at: Path, named: str) -> list[str]:
    """What the schema cannot say: each a sentence about keys that contradict each other or the folder."""
    found = []
    if container.name != at.name:
        found.append(f"`name` is {container.name!r}, the folder is {at.name!r}")
    bases = [key for key in ("release", "image", "archive") if getattr(container, key)]
    own = container.file
    if not named and (at / DOCKERFILE).is_file() and (at / DEFINITION).is_file():
        found.append(f"there is a {DOCKERFILE} and a {DEFINITION}: keep one, or say which with `file`")
    if own and bases:
        found.append(f"the {own} names its own base: leave out `base.{bases[0]}`")
    if not own and len(bases) != 1:
        found.append("`base` has exactly one of `release`, `image` and `archive`")
    if container.route != "declared":
        given = {
            "packages": container.package_names,
            "wheels": container.wheels,
            "exclude": container.exclude,
        }
        for key, value in given.items():
            if value:
                found.append(f"`{key}` goes with `base.release`; here {own or 'the image'} has what it has")
    found += _of_a_file(container)
    if container.wheels and not container.python:
        found.append("`wheels` needs `python`, the version that they are for (3.11)")
    values = {f"arguments.{name}": value for name, value in container.arguments}
    values |= {f"environment.{name}": value for name, value in container.environment}
    values |= {f"labels.{name}": value for name, value in container.labels}
    values |= {f"entry_point[{at}]": word for at, word in enumerate(container.entry_point)}
    # In Apptainer's definition, the next line may be a section of its own.
    found += [
        f"`{key}` has a line break in it"
        for key, value in values.items()
        if value.splitlines() not in ([], [value])
    ]
    found += [
        f"{path.relative_to(at)} is a link that leads out of the folder: put the file itself there"
        for path in sorted(at.rglob("*"))
        # An engine takes a link of its context as a link, and follows none out of it.
        if container.route != "dockerfile"
        and path.is_symlink()
        and not path.resolve().is_relative_to(at.resolve())
    ]
    if not container.tests:
        found.append("`tests` is empty: a container that was not tried does not count as built")
    files = [container.file, container.wheels, *(test.script for test in container.tests)]
    # A folder in the layout of OCI is an archive, too.
    files += [] if (at / container.archive).is_dir() else [container.archive]
    found += [f"there is no file {name} beside it" for name in files if name and not (at / name).is_file()]
    for test in container.tests:
        try:
            re.compile(test.expect)
        except re.error as error:
            found.append(f"`expect` of the test {test.name!r} is no regular expression: {error}")
    return found


def _of_a_file(container: Container) -> list[str]:
    """What is wrong with the keys that go with a Dockerfile or a definition."""
    found = []
    if container.arguments and not container.file:
        found.append("`arguments` goes with a Dockerfile or a definition")
    for key, value in {"target": container.target, "secrets": container.secrets}.items():
        if value and container.route != "dockerfile":
            found.append(f"`{key}` goes with a Dockerfile")
    found += [
        f"`secrets.{secret.name}` has exactly one of `file` and `environment`"
        for secret in container.secrets
        if bool(secret.file) == bool(secret.environment)
    ]
    return found
