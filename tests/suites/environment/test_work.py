"""What a person works with: compilers where mpicc is, Python, an editor, modules, manual pages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from hpcstate.check.jobs import new_name, on, srun
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from hpcstate.node.work_files import MODULES, MODULES_PROFILE
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


def test_modules(live: Live, controller: Node, record_property: RecordProperty) -> None:
    """A module that an admin put into the shared folder is found on every node"""
    name = new_name()
    names = [node.name for node in live.nodes]
    holders = names if live.cluster.home == "local" else [controller.name]
    file = f"{MODULES}/{name}/1.lua"
    make = f'install -D -m 644 /dev/stdin {file} <<\'end\'\nsetenv("HPCSTATE_CHECK", "{name}")\nend\n'
    look = f"module load {name} && echo $HPCSTATE_CHECK"
    ask = f"timeout --kill-after=5 45 env -u LMOD_SITE_MODULEPATH bash -lc {shlex.quote(look)} 2>&1"
    try:
        live.run_each(dict.fromkeys(holders, make), user="root")
        answers = live.run_each(dict.fromkeys(names, ask), user="hpc", check=False)
    finally:
        live.run_each(dict.fromkeys(holders, f"rm -rf {MODULES}/{name}"), user="root")
    said = {node: (answer.stdout.strip().splitlines() or ["nothing"])[-1] for node, answer in answers.items()}
    if wrong := {node: line for node, line in said.items() if line != name}:
        raise CheckFailed(
            f"`module load` takes it from {MODULES} on {', '.join(names)}",
            "; ".join(f"{node}: {line}" for node, line in wrong.items()),
            f"{MODULES_PROFILE} of the node, and its homes (storage.homes); {DEPLOY_AGAIN}",
        )
    record_property("observed", f"{MODULES} on {', '.join(names)}")


@fault("a node's shells do not know the folder of modules", "environment.modules")
def without_modules(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, MODULES_PROFILE):
        yield


@fault("the Open MPI compiler is gone from a node", "environment.programs", "environment.compiled")
def without_compiler(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, "/usr/bin/mpicc"):
        yield
