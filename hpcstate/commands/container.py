"""``hpcstate container``: what the project's containers are, and building, trying and inspecting them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcstate import paths
from hpcstate.cli import FINDINGS, OK
from hpcstate.commands import container_convert, container_registry
from hpcstate.errors import HpcstateError
from hpcstate.terminal import table

if TYPE_CHECKING:
    from hpcstate.container.toolbox import Toolbox
    from hpcstate.model.container import Container


def register(subparsers: Any) -> None:
    """Add ``container`` and its commands."""
    parser = subparsers.add_parser(
        "container",
        help="build, try, convert and deploy containers (.sif)",
        description="The containers of containers/, from their declaration to the nodes.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listed = commands.add_parser("list", help="the containers of the project: version, state, size")
    listed.add_argument("--json", action="store_true", help="print JSON")
    listed.set_defaults(run=run_list)
    build = commands.add_parser("build", help="build containers, as `doit build_containers:NAME` does")
    build.add_argument("names", metavar="NAME", nargs="+")
    build.set_defaults(run=run_build)
    info = commands.add_parser("info", help="labels, signature, size and digest of a container")
    info.add_argument("container", metavar="NAME|FILE.sif")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)
    test = commands.add_parser("test", help="run the tests that container.yaml declares")
    test.add_argument("name", metavar="NAME")
    test.add_argument("--file", metavar="FILE.sif", type=Path, help="try this file instead of the built one")
    test.add_argument("--json", action="store_true", help="print JSON; the progress goes to standard error")
    test.set_defaults(run=run_test)
    shell = commands.add_parser("shell", help="a shell in a container, on this machine")
    shell.add_argument("container", metavar="NAME|FILE.sif")
    shell.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="instead of a shell")
    shell.set_defaults(run=run_shell)
    verify = commands.add_parser(
        "verify", help="whether containers are whole and signed by the project's key"
    )
    verify.add_argument("containers", metavar="NAME|FILE.sif", nargs="+")
    verify.add_argument("--key", metavar="FILE.pem", type=Path, help="another public key")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=run_verify)
    container_convert.add(commands)
    container_registry.add(commands)


def run_list(args: argparse.Namespace) -> int:
    """The project's containers. One that is declared wrongly is told after the others; then 1."""
    from hpcstate.artifact.store import Manifest
    from hpcstate.container import declared

    rows: list[dict[str, Any]] = []
    wrong = []
    for name in paths.container_names():
        try:
            loaded = declared.load(name)
        except HpcstateError as error:
            wrong.append(str(error))
            continue
        manifest = Manifest.read(paths.sidecar(paths.container(name)))
        rows.append(
            {
                "name": name,
                "version": loaded.version,
                "category": loaded.category,
                "route": loaded.route,
                "gpu": loaded.gpu,
                "state": _state(loaded),
                "size": manifest.size if manifest else 0,
                "digest": manifest.digest if manifest else "",
                "summary": loaded.summary,
            }
        )
    if args.json:
        print(json.dumps({"containers": rows}, indent=2))
    else:
        header = ("container", "version", "route", "state", "size", "what it is")
        print(table(header, [_row(row) for row in rows]))
    for message in wrong:
        print(message, file=sys.stderr)
    return FINDINGS if wrong else OK


def run_build(args: argparse.Namespace) -> int:
    """Build by doit, in its graph: what is up to date is not built again."""
    from hpcstate.container import declared
    from hpcstate.run import run_visibly

    for name in args.names:
        declared.load(name)
    names = [f"build_containers:{name}" for name in args.names]
    return run_visibly([sys.executable, "-m", "doit", *names], cwd=paths.ROOT)


def run_info(args: argparse.Namespace) -> int:
    """What a .sif says of itself."""
    from hpcstate.container import sif, signing
    from hpcstate.container.inspect import inspect
    from hpcstate.digest import file_digest

    path = find(args.container)
    header, toolbox = sif.read(path), _toolbox()
    wrong = signing.verified(toolbox, path) if header.signed else "not signed"
    said = inspect(path, toolbox)
    found: dict[str, Any] = {
        "file": str(path),
        "size": path.stat().st_size,
        "sha256": file_digest(path),
        "format": f"SIF {header.version}, {header.architecture}",
        "signature": wrong or "good, by the project's key",
        "entry_point": said.runscript,
        "environment": said.environment,
        "labels": said.labels,
    }
    if args.json:
        print(json.dumps(found, indent=2))
        return OK
    for key, value in found.items():
        if key == "size":
            value = f"{value / 1e6:.1f} MB"
        if not isinstance(value, dict):
            print(f"  {key:<12} {value}")
            continue
        print(f"  {key}")
        for name, text in sorted(value.items()):
            print(f"    {name}: {text}")
    return OK


def run_test(args: argparse.Namespace) -> int:
    """Run the tests of a container on this machine; 1 when one fails."""
    from dataclasses import asdict

    from hpcstate.container import declared, trial

    loaded = declared.load(args.name)
    path = args.file or find(args.name)
    out = sys.stderr if args.json else sys.stdout

    def say(text: str) -> None:
        print(f"  {text}", file=out, flush=True)

    results = trial.run_tests(loaded, path, _toolbox(), say)
    failed = [result for result in results if result.outcome == "failed"]
    for result in failed:
        print(f"{result.name}: {result.said}", file=sys.stderr)
    if args.json:
        print(json.dumps({"container": args.name, "tests": [asdict(result) for result in results]}, indent=2))
    else:
        skipped = sum(result.outcome == "skipped" for result in results)
        print(f"{len(results) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped")
    return FINDINGS if failed else OK


def run_shell(args: argparse.Namespace) -> NoReturn:
    """A shell, or a command, in a container; its exit code. The current folder is the container's /mnt.

    Raises HpcstateError when a container of the project is not what was built; a file may be anybody's.
    """
    from hpcstate.container import signing

    path = find(args.container)
    toolbox = _toolbox()
    if wrong := signing.verified(toolbox, path):
        if path == paths.container(args.container):
            raise HpcstateError(
                f"its signature does not hold: {wrong}", where=args.container, hint="build it again"
            )
        print(f"hpcstate: {path}: not signed with the project's key: {wrong}", file=sys.stderr)
    here = Path.cwd()
    binds, plain = {path: "/image.sif"}, {here: "/here"}
    words: list[str] = ["exec", "--userns", "--bind", f"{toolbox.at(here, plain)}:/mnt", "--pwd", "/mnt"]
    words += ["--no-home"] if toolbox.sealed else []
    words += [toolbox.at(path, binds), *(args.command or ["/bin/sh"])]
    sys.stdout.flush()
    # What is foreign has no right to the files of who calls: as root, they are those of everybody.
    line = [str(word) for word in toolbox.words(["apptainer", "--silent", *words], binds, plain)]
    # The terminal belongs to the container from here on.
    os.execvp(line[0], line)


def run_verify(args: argparse.Namespace) -> int:
    """0 when each of them is whole and signed by the key, else 1."""
    from hpcstate.container import sif, signing

    toolbox = _toolbox()
    if args.key and not args.key.is_file():
        raise HpcstateError("there is no such public key", where=str(args.key))
    rows: list[dict[str, Any]] = []
    for name in args.containers:
        path = find(name)
        try:
            sif.read(path)
            wrong = signing.verified(toolbox, path, args.key)
        except HpcstateError as error:
            wrong = error.message
        rows.append({"file": str(path), "verified": not wrong, "reason": wrong})
    if args.json:
        print(json.dumps({"containers": rows}, indent=2))
    else:
        for row in rows:
            print(f"  {paths.shown(Path(row['file']))}: {row['reason'] or 'whole, and signed by the key'}")
    return OK if all(row["verified"] for row in rows) else FINDINGS


def find(name: str) -> Path:
    """The .sif that ``name`` means: a file, or the built container of that name.

    Raises HpcstateError when there is none.
    """
    from hpcstate.container import declared

    path = Path(name)
    if path.suffix == ".sif" or os.sep in name:
        if path.is_file():
            return path.resolve()
        raise HpcstateError("there is no such file", where=name)
    declared.load(name)
    built = paths.container(name)
    if not built.is_file():
        raise HpcstateError(
            f"the container {name!r} is not built", hint=f"`hpcstate container build {name}` builds it"
        )
    return built


def _toolbox() -> Toolbox:
    from hpcstate.artifact.store import Store
    from hpcstate.container.toolbox import runner

    return runner(Store.default())


def _state(loaded: Container) -> str:
    from hpcstate.artifact.store import Store
    from hpcstate.container import build

    recipe = build.recipe(loaded, Store.default())
    return {"missing": "not built", "current": "built", "outdated": "outdated"}[recipe.state]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    size = f"{row['size'] / 1e6:.0f} MB" if row["size"] else "-"
    return row["name"], row["version"], row["route"], row["state"], size, row["summary"]
