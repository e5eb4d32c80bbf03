"""What a built container must be able to do: its format, its labels, and the tests that it declares."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hpcstate.container import sif, signing
from hpcstate.container.declared import folder
from hpcstate.container.inspect import inspect
from hpcstate.container.toolbox import Toolbox
from hpcstate.errors import HpcstateError
from hpcstate.model.container import Container, ContainerTest
from hpcstate.run import tail, which

_SIF, _OWN = "/image.sif", "/own"

_INSIDE = {
    # Tests run as root of a user namespace that ends with them; Open MPI asks for this to be said.
    "APPTAINERENV_OMPI_ALLOW_RUN_AS_ROOT": "1",
    "APPTAINERENV_OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


@dataclass(frozen=True)
class TestResult:
    """``seconds`` is the duration; ``said`` the reason of what failed or was skipped, else the last line."""

    __test__ = False

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float
    said: str


def run_tests(
    container: Container, target: Path, toolbox: Toolbox, report: Callable[[str], None] = print
) -> list[TestResult]:
    """Try the .sif ``target`` of ``container``: format, signature, labels, entry point, then its own tests.

    Raises HpcstateError when Apptainer cannot run at all.
    """
    results = [
        _timed("format and signature", partial(_format, target, toolbox), report),
        _timed("labels", partial(_labels, container, target, toolbox), report),
        _timed("entry point", partial(_entry_point, container, target, toolbox), report),
    ]
    for test in container.tests:
        where, lacking = _gpu_toolbox(toolbox) if test.needs_gpu else (toolbox, "")
        if lacking:
            results.append(TestResult(test.name, "skipped", 0.0, lacking))
            report(f"skipped {test.name}: {lacking}")
            continue
        results.append(_timed(test.name, partial(_declared, container, test, target, where), report))
    return results


def _gpu_toolbox(toolbox: Toolbox) -> tuple[Toolbox, str]:
    """Where a test with a GPU runs, or why it cannot: `apptainer exec --nv` takes the driver's libraries from
    where Apptainer itself runs, and the tools root has none.
    """
    if not has_gpu():
        return toolbox, "needs a GPU, this machine has none"
    if toolbox.root is not None and which("apptainer") is None:
        return toolbox, "needs an Apptainer of this machine's own: the tools root has no NVIDIA driver"
    return (toolbox if toolbox.root is None else Toolbox(None)), ""


def has_gpu() -> bool:
    """Whether NVIDIA's driver runs on this machine (its proc entry is made by the kernel module)."""
    return Path("/proc/driver/nvidia/version").exists()


def _timed(name: str, question: Callable[[], str], report: Callable[[str], None]) -> TestResult:
    began = time.monotonic()
    try:
        said, outcome = question(), "passed"
    except HpcstateError as error:
        said, outcome = str(error), "failed"
    result = TestResult(name, "passed" if outcome == "passed" else "failed", time.monotonic() - began, said)
    report(f"{result.outcome} {name} ({result.seconds:.1f} s)")
    return result


def _format(target: Path, toolbox: Toolbox) -> str:
    header = sif.read(target)
    if wrong := signing.verified(toolbox, target):
        raise HpcstateError(wrong)
    return f"SIF {header.version}, {header.architecture}, signed"


def _labels(container: Container, target: Path, toolbox: Toolbox) -> str:
    found = inspect(target, toolbox).labels
    expected = {"hpcstate.source": f"containers/{container.name}", **dict(container.labels)}
    wrong = [f"{name}={found.get(name)!r}" for name, value in expected.items() if found.get(name) != value]
    if wrong or not found.get("hpcstate.key"):
        raise HpcstateError(f"labels are missing or different: {', '.join(wrong) or 'hpcstate.key'}")
    return f"{len(found)} labels"


def _entry_point(container: Container, target: Path, toolbox: Toolbox) -> str:
    """Its program is there and can be executed."""
    if not container.entry_point:
        return "a shell"
    program = container.entry_point[0]
    done = _execute(toolbox, target, {}, ["sh", "-c", 'command -v "$1"', "sh", program], 60)
    if done[0]:
        raise HpcstateError(f"the entry point {program!r} is no program of the container")
    return done[1].strip()


def _declared(container: Container, test: ContainerTest, target: Path, toolbox: Toolbox) -> str:
    own = folder(container.name)
    words = [*test.command, *([f"{_OWN}/{test.script}"] if test.script else [])]
    if test.ranks:
        words = ["mpirun", "--oversubscribe", "-n", str(test.ranks), *words]
    code, output = _execute(toolbox, target, {own: _OWN}, words, test.timeout_s, gpu=test.needs_gpu)
    if code:
        raise HpcstateError(f"it exited with {code}:\n{tail(output, 12)}")
    if test.expect and not re.search(test.expect, output):
        raise HpcstateError(f"its output has nothing like {test.expect!r}:\n{tail(output, 12)}")
    return (output.strip().splitlines() or [""])[-1]


def _execute(
    toolbox: Toolbox,
    target: Path,
    binds: dict[Path, str],
    words: list[str],
    timeout: float,
    *,
    gpu: bool = False,
) -> tuple[int, str]:
    """Run ``words`` in ``target``, which sees nothing of the host but ``binds``; exit code and output."""
    outer = {target: _SIF, **binds}
    options = ["--userns", *toolbox.contained, "--no-home", *(["--nv"] if gpu else [])]
    for source, inside in binds.items():
        options += ["--bind", f"{toolbox.at(source, outer)}:{inside}:ro"]
    done = toolbox.apptainer(
        ["--silent", "exec", *options, toolbox.at(target, outer), *words],
        binds=outer,
        environment=_INSIDE,
        timeout=timeout,
        check=False,
    )
    return done.code, done.stdout + done.stderr
