"""What a container costs: its build by compression and by route, and the start of a job in it.

    sudo .venv/bin/python bench/containers.py [NAME] [--cluster FILE] [--json]

The same tree of files (that of the built container NAME, mpi-minimal unless another is named) becomes a
signed .sif by each compression and by each route, here and now; the first of each group is the base of its
ratios, which is what can be compared between machines. With --cluster, jobs are started on that running
cluster, in turn: a bare one, Apptainer by itself, and container-exec, each five times (their median). Layers
and archives are there before the clock starts: fetching packages is the mirror's time, not ours.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hpcstate import paths  # noqa: E402
from hpcstate.artifact.store import Store  # noqa: E402
from hpcstate.container import build as container_build  # noqa: E402
from hpcstate.container import declared as container  # noqa: E402
from hpcstate.container import engine as container_engine  # noqa: E402
from hpcstate.container import routes as container_routes  # noqa: E402
from hpcstate.container import toolbox as tools_root  # noqa: E402
from hpcstate.container.routes import Source  # noqa: E402
from hpcstate.container.toolbox import Toolbox  # noqa: E402
from hpcstate.errors import HpcstateError  # noqa: E402
from hpcstate.files import remove_tree  # noqa: E402
from hpcstate.model.container import REGISTRY  # noqa: E402
from hpcstate.run import run  # noqa: E402

COMPRESSIONS: dict[str, tuple[str, ...]] = {
    "gzip (Apptainer's own)": (),
    **{f"zstd {level}": ("-comp", "zstd", "-Xcompression-level", str(level)) for level in (3, 9, 15, 19)},
    "lz4": ("-comp", "lz4"),
}

_YAML = """\
name: {name}
version: "1"
summary: the tree of another
{base}tests:
  - {{name: none is run, command: ["true"]}}
"""
_DOCKERFILE = "FROM scratch\nADD root.tar /\n"
_DEFINITION = "Bootstrap: docker-archive\nFrom: docker.tar\n\n%post\n    true\n"
_TAG = "localhost/hpcstate/dockerfile:1"
JOBS = 5


@dataclass(frozen=True)
class Row:
    """One figure: seconds, MB (10^6 bytes; 0 where nothing is written), ratio of time to the first row."""

    group: str
    name: str
    seconds: float
    size_mb: float
    ratio: float


def rows(group: str, measured: dict[str, tuple[float, float]]) -> list[Row]:
    """``measured`` (name to seconds and MB) with ratios to the first."""
    base = next(iter(measured.values()))[0]
    return [
        Row(group, name, round(seconds, 2), round(size, 1), round(seconds / base, 3))
        for name, (seconds, size) in measured.items()
    ]


def timed(work: Path, toolbox: Toolbox, source: Source, squash: Sequence[str]) -> tuple[float, float]:
    """Seconds from ``source`` to a signed .sif, and its MB."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        target = Path(folder) / "out.sif"
        began = time.monotonic()
        container_build.write(
            container_routes.whole(source, {}), source, target, Path(folder), toolbox, squash=squash
        )
        return time.monotonic() - began, target.stat().st_size / 1e6


def builds(name: str) -> list[Row]:
    """By compression, then by route."""
    store = Store.default()
    toolbox = tools_root.toolbox(store)
    paths.BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.BUILD) as folder:
        work = Path(folder)
        tree = work / "tree"
        try:
            container_build.unpacked(container.load(name), tree, store)
            binds = {work: "/trees"}
            local = Source(f"Bootstrap: localimage\nFrom: {toolbox.at(tree, binds)}\n", binds)
            compressions = {}
            for key, squash in COMPRESSIONS.items():
                compressions[key] = timed(work, toolbox, local, squash)
                say(f"{key}: {compressions[key][0]:.1f} s")
            run(["tar", "-C", tree, "-cf", work / "root.tar", "."])
        finally:
            remove_tree(tree)
        routes = {"declared (its tree is there)": compressions["zstd 9"], **by_route(toolbox, work)}
    return rows("compression", compressions) + rows("route", routes)


def by_route(toolbox: Toolbox, work: Path) -> dict[str, tuple[float, float]]:
    """root.tar in ``work`` by each route that is not the declared one."""
    measured: dict[str, tuple[float, float]] = {}
    with (
        patch.object(paths, "CONTAINERS", work / "containers"),
        patch.object(container_engine, "STORAGE", work / "storage"),
    ):
        engine = container_engine.buildah()
        with patch.object(container_engine, "find", lambda: engine):
            own = declare("dockerfile")
            (own / "Dockerfile").write_text(_DOCKERFILE)
            (work / "root.tar").rename(own / "root.tar")
            measured["Dockerfile (buildah)"] = routed("dockerfile", toolbox, work, work / "cache")
            measured["Dockerfile, its layers kept"] = routed("dockerfile", toolbox, work, work / "cache")
        for kind in ("docker", "oci"):
            own = declare(kind, f"base: {{archive: {kind}.tar}}\n")
            engine.run("push", "--quiet", _TAG, f"{kind}-archive:{own / f'{kind}.tar'}")
            measured[f"{kind}-archive"] = routed(kind, toolbox, work, work / f"cache.{kind}")
        own = declare("definition")
        (own / "container.def").write_text(_DEFINITION)
        (own / "docker.tar").hardlink_to(container.folder("docker") / "docker.tar")
        measured["definition (docker-archive)"] = routed(
            "definition", toolbox, work, work / "cache.definition"
        )
    return measured


def declare(name: str, base: str = "") -> Path:
    """The folder of a container ``name``, with its container.yaml."""
    own = container.folder(name)
    own.mkdir(parents=True)
    (own / "container.yaml").write_text(_YAML.format(name=name, base=base))
    return own


def routed(name: str, toolbox: Toolbox, work: Path, cache: Path) -> tuple[float, float]:
    """Seconds of all that the build of the container ``name`` does, and the MB of its .sif.

    ``cache`` is where Apptainer keeps its layers.
    """
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        patch.object(container_routes, "CACHE", cache),
    ):
        began = time.monotonic()
        source = container_routes.source(container.load(name), Path(folder), toolbox, say)
        before = time.monotonic() - began
        seconds, size = timed(work, toolbox, source, container_build.SQUASH)
    return before + seconds, size


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(f"    {line}", file=sys.stderr, flush=True)


def starts(file: Path, name: str) -> list[Row]:
    """Seconds of a job that does nothing, on the first compute node of the cluster in ``file``."""
    from hpcstate import schema
    from hpcstate.node.ssh import Live

    cluster = schema.load(file).cluster("hpc")
    if cluster is None:
        raise HpcstateError("the file has no hpc cluster", where=str(file))
    node = cluster.workers[0].name
    category = container.load(name).category
    job = ["srun", f"--nodelist={node}", "--ntasks=1", "--mem=300M"]
    commands = {
        "a bare job": ["true"],
        "apptainer exec": ["apptainer", "exec", f"{REGISTRY}/{category}/{name}.sif", "true"],
        "container-exec": ["container-exec", name, "--", "true"],
    }
    seconds: dict[str, list[float]] = {key: [] for key in commands}
    with Live(cluster) as live:
        for _ in range(JOBS):
            for key, command in commands.items():
                began = time.monotonic()
                live.run(cluster.controller.name, shlex.join([*job, *command]), user="hpc", timeout=120)
                seconds[key].append(time.monotonic() - began)
    return rows("start of a job", {key: (statistics.median(found), 0.0) for key, found in seconds.items()})


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default="mpi-minimal")
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="a running cluster that has the container"
    )
    parser.add_argument("--no-builds", action="store_true", help="only the start of jobs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        found = [] if args.no_builds else builds(args.name)
        found += starts(args.cluster, args.name) if args.cluster else []
    except HpcstateError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"container": args.name, "rows": [asdict(row) for row in found]}, indent=2))
        return 0
    group = ""
    for row in found:
        if row.group != group:
            group = row.group
            print(f"{group}")
        size = f"{row.size_mb:9.1f} MB" if row.size_mb else " " * 12
        print(f"  {row.name:<30}{row.seconds:8.2f} s{size}  x {row.ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
