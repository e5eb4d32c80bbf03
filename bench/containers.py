"""What a container costs: its build by route and compression, and the start of a job in it.

    sudo .venv/bin/python bench/containers.py [NAME] [--cluster FILE] [--json]

The same tree of files (that of the built container NAME, mpi-minimal unless another is named) becomes a
.sif by each compression and by each route, here and now; the first of each group is the base of its ratios,
which is what can be compared between machines. With --cluster, jobs are started on that running cluster, in
turn: a bare one, Apptainer by itself, and container-exec, each five times (their median). Layers are taken
as they are: fetching packages is the mirror's time, not ours.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hpcstate import container, container_routes, paths, sif, tools_root  # noqa: E402
from hpcstate.container_layers import layers  # noqa: E402
from hpcstate.errors import HpcstateError  # noqa: E402
from hpcstate.run import run, which  # noqa: E402
from hpcstate.store import Store  # noqa: E402
from hpcstate.tools_root import Toolbox, remove_tree, unpack  # noqa: E402

COMPRESSIONS = {
    "gzip (Apptainer's own)": "",
    "zstd 3": "-comp zstd -Xcompression-level 3",
    "zstd 9": "-comp zstd -Xcompression-level 9",
    "zstd 15": "-comp zstd -Xcompression-level 15",
    "zstd 19": "-comp zstd -Xcompression-level 19",
    "lz4": "-comp lz4",
}
OURS = COMPRESSIONS["zstd 9"]
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


def build(
    toolbox: Toolbox, work: Path, source: container_routes.Source, squash: str, target: Path
) -> tuple[float, float]:
    """Seconds of `apptainer build` from ``source``, and the MB of what it wrote."""
    definition, scratch = work / "bench.def", work / "tmp"
    definition.write_text(source.definition)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    binds = {work: "/work", **source.binds}
    words = ["build", "--force", *(["--mksquashfs-args", squash] if squash else [])]
    environment = {**source.environment, "APPTAINER_TMPDIR": toolbox.at(scratch, binds)}
    began = time.monotonic()
    toolbox.apptainer(
        [*words, toolbox.at(target, binds), toolbox.at(definition, binds)],
        binds=binds,
        environment=environment,
    )
    seconds = time.monotonic() - began
    assert sif.read(target)
    return seconds, target.stat().st_size / 1e6


def builds(name: str) -> list[Row]:
    """By compression, then by route."""
    store = Store.default()
    toolbox, one = tools_root.toolbox(store), container.load(name)
    tars, _ = layers(one, store)
    with tempfile.TemporaryDirectory(dir=paths.BUILD) as folder:
        work = Path(folder)
        tree, target = work / "tree", work / "out.sif"
        tree.mkdir(mode=0o755)
        for tar in tars:
            unpack(tar, tree)
        local = container_routes.Source(
            f"Bootstrap: localimage\nFrom: {toolbox.at(tree, {work: '/work'})}\n", {}
        )
        try:
            found = rows(
                "compression",
                {key: build(toolbox, work, local, args, target) for key, args in COMPRESSIONS.items()},
            )
            routes = {"declared (a tree)": build(toolbox, work, local, OURS, target)}
            if which("buildah"):
                routes |= by_buildah(toolbox, work, tree, target)
            else:
                print("buildah is not installed: its route is left out", file=sys.stderr)
            return found + rows("route", routes)
        finally:
            remove_tree(tree)


def by_buildah(toolbox: Toolbox, work: Path, tree: Path, target: Path) -> dict[str, tuple[float, float]]:
    """A Dockerfile with the same tree: the engine's part, and the conversion of what it saved."""
    context, archive = work / "context", work / "image.tar"
    context.mkdir()
    run(["tar", "-C", tree, "-cf", context / "root.tar", "."])
    (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    storage = ["--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs"]
    began = time.monotonic()
    run(["buildah", *storage, "build", "--isolation", "chroot", "--tag", "bench", context])
    run(["buildah", *storage, "push", "bench", f"docker-archive:{archive}:bench:latest"])
    engine = time.monotonic() - began
    source = container_routes.of_archive("docker-archive", archive, toolbox)
    seconds, size = build(toolbox, work, source, OURS, target)
    run(["buildah", *storage, "rmi", "--all"], check=False)
    return {
        "Dockerfile (buildah), both": (engine + seconds, size),
        "  the engine": (engine, archive.stat().st_size / 1e6),
        "  docker-archive converted": (seconds, size),
    }


def starts(file: Path, name: str) -> list[Row]:
    """Seconds of a job that does nothing, on the first compute node of the cluster in ``file``."""
    from hpcstate import schema
    from hpcstate.live import Live

    cluster = schema.load(file).cluster("hpc")
    if cluster is None:
        raise HpcstateError("the file has no hpc cluster", where=str(file))
    node = cluster.workers[0].name
    category = container.load(name).category
    job = ["srun", f"--nodelist={node}", "--ntasks=1", "--mem=300M"]
    commands = {
        "a bare job": ["true"],
        "apptainer exec": ["apptainer", "exec", f"/opt/containers/{category}/{name}.sif", "true"],
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
