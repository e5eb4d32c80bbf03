"""What a built container must be able to do: its format, its labels, and the tests that it declares."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hpcstate.container import architecture, environment, sif, signing
from hpcstate.container.declared import folder
from hpcstate.container.inspect import inspect
from hpcstate.container.toolbox import OF_THE_HOST, Toolbox
from hpcstate.errors import HpcstateError
from hpcstate.model.container import Container, ContainerTest
from hpcstate.run import run, tail, which

_SIF, _OWN = "/image.sif", "/own"

_NOTICE = re.compile(r"(INFO|WARNING|DEBUG|VERBOSE): ")
"""How Apptainer begins what is no error; an error of a script in the container begins otherwise."""

_LOADERS = ("usr/lib64/ld-linux-*.so.2", "usr/lib/ld-linux-*.so.1", "lib64/ld-linux-*.so.2")
_MACHINES = {"62": "amd64", "183": "arm64", "21": "ppc64le", "243": "riscv64", "3": "386", "40": "arm"}
"""e_machine of elf(5), and the architecture."""

_NOT_EXECUTABLE = 126
_ENTRY_POINT = Path(__file__).with_name("entry_point.sh")

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
        _timed("start and environment", partial(_start, container, target, toolbox), report),
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


def _start(container: Container, target: Path, toolbox: Toolbox) -> str:
    """It starts without a complaint, and has the environment that its image and container.yaml say."""
    code, output, said = _probed(target, toolbox, "env", "-0")
    complaints = [line for line in said.splitlines() if line.strip() and not _NOTICE.match(line)]
    if code or complaints:
        raise HpcstateError(f"as it starts (exit code {code}):\n{tail(chr(10).join(complaints) or said, 8)}")
    found = dict(line.partition("=")[::2] for line in output.split("\0") if line)
    expected = environment.variables(sif.image_config(target).get("Env") or ())
    if container.route == "definition":
        # Its own %environment comes after that of the image.
        own = inspect(target, toolbox).set_by_the_definition
        expected = {name: value for name, value in expected.items() if name not in own}
    expected |= dict(container.environment)
    if wrong := environment.differences(expected, found):
        raise HpcstateError("its environment is another one:\n" + tail("\n".join(wrong), 12))
    if container.route == "definition" or container.image:
        demand_architecture(target, toolbox, f"containers/{container.name}")
    return f"{len(expected)} variables"


def demand_architecture(target: Path, toolbox: Toolbox, where: str) -> None:
    """Raises HpcstateError where the shell of ``target``, made of ``where``, is a program of another machine:
    Apptainer 1.4.5 takes any image that a definition or an address names, and calls it the machine's own.
    """
    code, output, _ = _probed(target, toolbox, "od", "-An", "-tu2", "-j18", "-N2", "/bin/sh")
    machine = output.strip()
    if code == 0 and machine in _MACHINES:
        architecture.demand(_MACHINES[machine], where)


def _probed(target: Path, toolbox: Toolbox, program: str, *words: str) -> tuple[int, str, str]:
    """``program`` of where Apptainer runs, in ``target``, which may have none: its exit code and both
    outputs. By its loader, with the C library of there, and in an empty environment.
    """
    root = toolbox.root or Path("/")
    loader = next(file for name in _LOADERS for file in root.glob(name))
    library = next(root.glob("usr/lib/*-linux-gnu/libc.so.6"))
    outer = {target: _SIF, loader: "/probe.ld", library: "/probe.libc"}
    outer[root / "usr/bin" / program] = "/probe"
    own = {"HOME": str(OF_THE_HOST)} if toolbox.root is None and toolbox.sealed else {"HOME": "/root"}
    # Not --cleanenv, by which Apptainer sets LANG; there is nothing to clean.
    contained = [word for word in toolbox.contained if word != "--cleanenv"]
    options = ["--userns", *(["--contain", "--ipc", "--pid"] if "--containall" in contained else contained)]
    for source, inside in list(outer.items())[1:]:
        options += ["--bind", f"{toolbox.at(source, outer)}:{inside}:ro"]
    line = ["apptainer", "--quiet", "exec", *options, "--no-home", toolbox.at(target, outer)]
    line += ["/probe.ld", "--preload", "/probe.libc", "/probe", *words]
    done = run(toolbox.words(line, outer), env={"PATH": os.environ["PATH"], **own}, timeout=60, check=False)
    return done.code, done.stdout, done.stderr


def _entry_point(container: Container, target: Path, toolbox: Toolbox) -> str:
    """Its program is there and can be executed."""
    if not container.entry_point:
        return "a shell"
    program = container.entry_point[0]
    code, output = _execute(toolbox, target, {}, ["sh", "-c", _ENTRY_POINT.read_text(), "sh", program], 60)
    if code == _NOT_EXECUTABLE:
        raise HpcstateError(
            f"the entry point {program!r} is a file that cannot be executed",
            hint="`chmod +x` it in the build; a file of the build's context: `COPY --chmod=755`",
        )
    if code:
        raise HpcstateError(f"the entry point {program!r} is no program of the container")
    return output.strip()


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
