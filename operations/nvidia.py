"""NVIDIA's driver on a node with its GPUs: Debian's packages, held together; reboots only when asked for."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.apt import AptPackageVersions, AptSourceEntries
from facts.nvidia import NvidiaDriver
from facts.pci import PciDevices
from facts.slurm import SlurmJobs, SlurmNodes
from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.gpu import driver as nvidia_driver
from hpcstate.node.managed import Managed
from hpcstate.probe.nvidia_driver import DriverUnit, KernelModules
from hpcstate.probe.nvidia_driver import NvidiaDriver as DriverState
from hpcstate.probe.pci import PciDevice
from operations import text_files
from operations.packages import APT_GET
from operations.text_files import TextFile
from operations.util.arguments import operation
from operations.util.commands import fail, stop_host
from operations.util.drain import DRAIN_SECONDS, drain_and_wait, listed

Commands = Generator[PyinfraCommand, None, None]

BOOT_SECONDS = 600
POLL_SECONDS = 5

MANAGED = (
    Managed(
        "nvidia",
        "NVIDIA's driver: packages, kernel modules, libraries of one version, its units",
        "Debian's packages, /etc/modprobe.d, the running kernel",
        "dpkg, modinfo, /proc/driver/nvidia, systemctl show",
        "mended",
        "an NVIDIA GPU",
    ),
)


@dataclass(frozen=True)
class Asked:
    """What the user asks for. ``modules`` are the kernel modules (``open``, ``proprietary``, empty: choose);
    ``mps`` adds the Multi-Process Service; ``update`` takes the newest packages of the node's sources;
    ``reboot`` allows a reboot where the driver needs one.
    """

    modules: str = ""
    mps: bool = False
    update: bool = False
    reboot: bool = False


@dataclass(frozen=True)
class _Wanted:
    """What one node should have."""

    modules: KernelModules
    packages: Sequence[str]
    files: Sequence[TextFile]


@operation()
def driver(node: str, asked: Asked, *, timeout_s: float = DRAIN_SECONDS) -> Commands:
    """``node`` runs NVIDIA's driver of Debian 13 if an NVIDIA GPU is on its bus; elsewhere nothing at all.

    Installs, holds together with the kernel's packages, and loads. Packages under a loaded driver are only
    changed when ``node`` is drained and its jobs have ended (at most ``timeout_s`` seconds); so is a reboot,
    which needs ``asked.reboot``: without it this host is stopped with the reason and the next step. A drain
    of ours is lifted by operations.slurm.compute_daemon, when slurmd has its GPUs.
    """
    devices = host.get_fact(PciDevices)
    gpus = nvidia_driver.gpus(devices)
    if not gpus:
        host.noop(f"{node} has no NVIDIA GPU on its bus")
        return
    state = host.get_fact(NvidiaDriver)
    try:
        wanted = _wanted(gpus, state, asked)
    except HpcstateError as error:
        yield stop_host(str(error))
        return
    changed = yield from _files(wanted)
    changed = (yield from _packages(node, wanted, state, asked, timeout_s)) or changed
    if changed:
        state = host.get_fact(NvidiaDriver)  # what the commands above have made of it
    if nvidia_driver.not_built(wanted.modules, state):
        yield stop_host(_not_built(wanted.modules, state))
        return
    if off := [unit for unit in nvidia_driver.UNITS if not _unit(state, unit)["enabled"]]:
        yield StringCommand("systemctl enable --quiet", *off)
    reasons = nvidia_driver.reboot_reasons(wanted.modules, state)
    if reasons and asked.reboot:
        known = host.get_fact(SlurmNodes).get(node)
        yield from drain_and_wait(node, known, f"reboot: {'; '.join(reasons)}", timeout_s)
        yield FunctionCommand(reboot_and_wait, (node, BOOT_SECONDS), {})
        state = host.get_fact(NvidiaDriver)
        reasons = nvidia_driver.reboot_reasons(wanted.modules, state)
        changed = True
    if reasons:
        yield stop_host(_reboot_needed(node, reasons, rebooted=asked.reboot))
        return
    if not state["loaded"]:
        yield StringCommand(_load_script())
    if stopped := [unit for unit in nvidia_driver.UNITS if not _unit(state, unit)["active"]]:
        yield StringCommand("systemctl start", *stopped)
    if state["loaded"] and not (changed or off or stopped):
        host.noop(f"{node} runs NVIDIA's driver {state['loaded']} ({wanted.modules} modules)")


def _wanted(gpus: Sequence[PciDevice], state: DriverState, asked: Asked) -> _Wanted:
    """Raises HpcstateError for every reason not to touch the node."""
    modules = nvidia_driver.choose_modules(gpus, asked.modules)
    names = nvidia_driver.packages(modules, state["kernel"], mps=asked.mps)
    if problem := nvidia_driver.secure_boot_problem(state):
        raise HpcstateError(problem)
    content = nvidia_driver.files(host.get_fact(AptSourceEntries), len(gpus))
    then = {nvidia_driver.DEVICES: "systemctl daemon-reload"}
    if state["nouveau_built"]:
        # nouveau may be in the initramfs, which has a copy of modprobe.d of its own.
        then[nvidia_driver.NOUVEAU_OFF] = "update-initramfs -u"
    files = [TextFile(path, text, then=then.get(path, "")) for path, text in content.items()]
    return _Wanted(modules, names, files)


def _files(wanted: _Wanted) -> Generator[PyinfraCommand, None, bool]:
    """Writes the files that differ; whether there were any."""
    changed = False
    for command in text_files.put._inner(wanted.files):
        yield command
        changed = True
    return changed


def _packages(
    node: str, wanted: _Wanted, state: DriverState, asked: Asked, timeout_s: float
) -> Generator[PyinfraCommand, None, bool]:
    """Installs the whole set where a part is missing, or newer ones are asked for and found; holds it.

    Always the whole set: a single package of a newer version would not fit the others.
    """
    lacking = nvidia_driver.missing(wanted.packages, state)
    rivals = nvidia_driver.rivals(wanted.modules, state)
    install = bool(lacking or rivals)
    if install or asked.update:
        yield StringCommand(f"{APT_GET} -o APT::Update::Error-Mode=any update")
    if asked.update and not install:
        versions = host.get_fact(AptPackageVersions, packages=tuple(wanted.packages))
        install = any(v["candidate"] not in ("", v["installed"]) for v in versions.values())
    if install:
        if state["loaded"]:
            known = host.get_fact(SlurmNodes).get(node)
            yield from drain_and_wait(node, known, "NVIDIA's driver changes", timeout_s)
        yield StringCommand(_install_script([*wanted.packages, *(f"{name}-" for name in rivals)]))
        yield StringCommand("apt-mark hold", *wanted.packages)
        if state["loaded"]:
            yield StringCommand(_unload_script())
        return True
    if loose := [name for name in wanted.packages if not state["packages"][name]["held"]]:
        yield StringCommand("apt-mark hold", *loose)
    return asked.update or bool(loose)


def reboot_and_wait(state: Any, host: Any, node: str, timeout_s: float) -> bool:
    """Reboots the host if no job holds ``node``, and waits at most ``timeout_s`` s until it answers again.

    Told by the kernel's boot id, which no clock can falsify. ``state`` and ``host`` are passed by pyinfra.
    False, which fails the host, when there are jobs or the time is over.
    """
    if jobs := host.get_fact(SlurmJobs, node=node):
        return fail(state, host, f"jobs {listed(jobs)} hold {node}: it is not rebooted")
    before = _boot_id(host)
    # Detached, and a moment later: the SSH session has to end first.
    host.run_shell_command("(sleep 1; systemctl reboot) </dev/null >/dev/null 2>&1 &", _sudo=True)
    host.log(f"{node} reboots")
    host.disconnect()
    waited = 0
    while waited < timeout_s:
        gevent.sleep(POLL_SECONDS)
        waited += POLL_SECONDS
        host.connect(show_errors=False)
        if host.connected and _boot_id(host) not in ("", before):
            return True
        host.disconnect()
    return fail(
        state, host, f"{node} does not answer {timeout_s:.0f} s after its reboot: look at its console"
    )


def _boot_id(host: Any) -> str:
    success, output = host.run_shell_command("cat /proc/sys/kernel/random/boot_id")
    return output.stdout if success else ""


def _unit(state: DriverState, unit: str) -> DriverUnit:
    return state["units"].get(unit, DriverUnit(active=False, enabled=False))


def _reboot_needed(node: str, reasons: Sequence[str], *, rebooted: bool) -> str:
    why = "; ".join(reasons)
    if rebooted:
        return f"{node} was rebooted, and still: {why}. See the boot messages: journalctl -b -g nvidia"
    return (
        f"{node} has to be rebooted before its GPUs can be used: {why}.\n"
        "With --data nvidia_reboot=true the deploy drains it, waits for its jobs, and reboots it."
    )


def _not_built(modules: KernelModules, state: DriverState) -> str:
    """The packages are there, the module is not: DKMS stops, without failing, where headers are missing."""
    headers = ", ".join(state["headers"]) or "no kernel"
    return (
        f"DKMS has built no {modules} NVIDIA modules (headers are installed of: {headers}).\n"
        "See `dkms status` and /var/lib/dkms/nvidia*/*/build/make.log on the node."
    )


def _install_script(words: Sequence[str]) -> str:
    """The program nvidia_install.sh; ``words`` are for apt-get install."""
    file = Path(__file__).with_name("nvidia_install.sh")
    return programs.command(file, arguments=words, apt_get=APT_GET)


def _load_script() -> str:
    """The program nvidia_load.sh."""
    return programs.command(Path(__file__).with_name("nvidia_load.sh"))


def _unload_script() -> str:
    """The program nvidia_unload.sh, which stops both units first."""
    return programs.command(Path(__file__).with_name("nvidia_unload.sh"), arguments=nvidia_driver.UNITS)
