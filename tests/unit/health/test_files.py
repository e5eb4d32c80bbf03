"""What nodes get: programs that run by themselves with nothing but the standard library."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.health import checks, files, run
from hpcstate.model import HealthCheck, Mount
from hpcstate.node import scratch, timers
from hpcstate.slurm.conf import EPILOG, HEALTH_PROGRAM, PROLOG, TASK_PROLOG, slurm_conf

GPU = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
OWN = HealthCheck("licence", "", "#!/bin/sh\nexit 0\n", ("prolog",), "requeue", 5)
ON = replace(GPU, health=replace(GPU.health, on=True, own=(OWN,), off=("clocks",), note_only=("mounts",)))
HEAD, WORKER = ON.controller, ON.workers[0]


def test_off_there_is_nothing() -> None:
    assert all(files.files(GPU, node) == {} and scratch.files(GPU, node) == {} for node in GPU.nodes)
    text = slurm_conf(GPU)
    assert not any(word in text for word in ("HealthCheck", "Prolog=", "Epilog", "nohold"))
    assert "SchedulerParameters=extra_constraints\n" in text and timers.timers(GPU, GPU.controller) == ()


def test_slurm_is_told() -> None:
    text = slurm_conf(ON)
    for line in (
        f"HealthCheckProgram={HEALTH_PROGRAM}",
        "HealthCheckInterval=300",
        "HealthCheckNodeState=ANY",
        f"Prolog={PROLOG}",
        f"Epilog={EPILOG}",
        f"TaskProlog={TASK_PROLOG}",
        "SchedulerParameters=extra_constraints,nohold_on_prolog_fail",
    ):
        assert f"\n{line}\n" in text


def test_the_programs_that_slurm_names_are_there_and_can_run() -> None:
    found = files.files(ON, WORKER)
    assert {path for path, (_, mode) in found.items() if mode == "755"} == {
        *(f"{files.FOLDER}/{name}" for name in files.PROGRAMS),
        PROLOG,
        EPILOG,
        f"{files.OWN}/licence",
    }
    assert HEALTH_PROGRAM in found and list(found)[-1] == files.CONFIG
    assert all(text.endswith("\n") for text, _ in found.values())
    of_head = files.files(ON, HEAD)
    assert f"{files.FOLDER}/active" in of_head and PROLOG not in of_head and scratch.files(ON, HEAD) == {}


def test_a_node_is_told_what_it_is(tmp_path: Path) -> None:
    node = replace(WORKER, mounts=(Mount("nfs", "nas:/x", "/data", ""),))
    path = tmp_path / "health.json"
    path.write_text(files.config(replace(ON, home="nfs"), node))
    words, found = run.read_config(path)
    assert words["mounts"] == ["/home", "/data"] and words["controller"] == [str(HEAD.address), 6817]
    by_name = {check.name: check for check in found}
    assert "clocks" not in by_name and by_name["mounts"].on_fail == "note"
    assert by_name["licence"].own and by_name["licence"].on_fail == "requeue"
    assert {name for name in by_name if name != "licence"} <= set(checks.CHECKS)
    # Simulated GPUs are on no bus.
    assert json.loads(files.config(ON, WORKER))["gpus"] == 0


def test_modules_of_nodes_import_the_standard_library_only() -> None:
    found = files.modules()
    known = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in found}
    in_container = "hpcstate/health/gpu_product.py"
    for path, text in found.items():
        if not path.endswith(".py") or path == in_container:
            continue
        for node in ast.walk(ast.parse(text)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.partition(".")[0] in sys.stdlib_module_names or name in known, f"{path}: {name}"


@pytest.mark.parametrize("program", files.PROGRAMS.values())
def test_they_run_from_where_they_are_put(tmp_path: Path, program: str) -> None:
    for path, text in files.modules().items():
        at = tmp_path / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
    start = (
        files.launcher(program)
        .replace(files.FOLDER, str(tmp_path))
        .replace("sys.exit(main(sys.argv[1:]))", "")
    )
    done = subprocess.run(
        [sys.executable, "-IB", "-c", start + "import hpcstate\nprint(hpcstate.__file__)\n"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == str(tmp_path / "hpcstate/__init__.py")
    assert not list(tmp_path.rglob("__pycache__"))


def test_findings_can_be_asked_for_from_there(tmp_path: Path) -> None:
    for path, text in files.modules().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    ask = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from hpcstate.health import gpus\n"
        "import subprocess\n"
        "gpus.on_the_bus = lambda: 1\n"
        "ask = lambda text: subprocess.run(['sh', '-c', text], capture_output=True, text=True).stdout\n"
        "print(list(gpus.errors('a', ask)))\n"
    )
    done = subprocess.run([sys.executable, "-IB", "-c", ask], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("[")


def test_one_task_prolog_serves_both() -> None:
    (alone,) = scratch.files(ON, WORKER).values()
    both = scratch.files(replace(ON, scratch="/scratch"), WORKER)[TASK_PROLOG]
    assert "SCRATCH" not in alone and "events=/var/spool/hpcstate/jobs" in alone
    assert both.index("tasks=$events") < both.index("export SCRATCH")


def test_the_timer_of_the_active_checks() -> None:
    daily = replace(ON, health=replace(ON.health, active_every_h=24))
    (timer,) = timers.timers(daily, HEAD)
    assert "86400" in timer.timer and f"{files.FOLDER}/active" in timer.program
    assert timers.timers(daily, WORKER) == () and timers.timers(ON, HEAD) == ()
