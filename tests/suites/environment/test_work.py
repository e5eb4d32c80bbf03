"""What a person works with: compilers where mpicc is, Python, an editor, modules, manual pages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from hpcstate.check.jobs import on, srun
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.ssh import Live
from tests.suites.breaking import last_worker, moved
from tests.suites.slurm import reports

_PROGRAMS = Path(__file__).with_name("_programs.sh")
_RING = Path(__file__).with_name("_ring.c")
_IMAGE = "an image of now has them: `./hpc build_images`, then `hpcstate roll start FILE`"


def test_programs(live: Live, record_property: RecordProperty) -> None:
    """Compilers, Python, an editor, modules and manual pages are on every node"""
    names = [node.name for node in live.cluster.nodes]
    script = f"bash -lc {shlex.quote(_PROGRAMS.read_text())}"
    answers = live.run_each(dict.fromkeys(names, script), user="hpc")
    missing = {
        name: [line.removeprefix("missing: ") for line in answer.stdout.splitlines()]
        for name, answer in answers.items()
    }
    if any(missing.values()):
        raise CheckFailed(
            "all of them on every node",
            "; ".join(f"{name} lacks {', '.join(what)}" for name, what in missing.items() if what),
            _IMAGE,
        )
    record_property("observed", f"all on {len(names)} nodes")


def test_compiled(live: Live, record_property: RecordProperty) -> None:
    """An MPI program in C is compiled in a job and runs in it on all its ranks"""
    node = last_worker(live)
    count = min(2, node.cpu_cores)
    # Without a shared home each rank would find its own program only where it compiled it.
    script = 'cd "$(mktemp -d)" && mpicc -x c -o ring - && ./ring; code=$?; rm -rf "$PWD"; exit $code'
    arguments = (*on(live, node), f"--ntasks={count}", "--cpus-per-task=1", "--mem=400M")
    command = f"bash -c {shlex.quote(script)} <<'end'\n{_RING.read_text()}end\n"
    ranks = reports(srun(live, arguments, ["bash", "-c", command], seconds=90))
    if ranks != [{"size": count, "sum": sum(range(count))}]:
        raise CheckFailed(f"one world of {count}", "; ".join(map(str, ranks)) or "no rank reported", _IMAGE)
    record_property("observed", f"{count} ranks on {node.name}, sum {ranks[0]['sum']}")


@fault("the Open MPI compiler is gone from a node", "environment.programs", "environment.compiled")
def without_compiler(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, "/usr/bin/mpicc"):
        yield
