"""Which of Debian 13's NVIDIA drivers a node needs, what it lacks of it, whether it has to be rebooted. Pure.

Debian 13 has the driver 550 (550.163.01) in contrib and non-free, and in non-free-firmware what it loads into
the GPU. Backports and unstable have the same version; 535 (nvidia-tesla-535-*) supports no GPU that 550 does
not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import get_args

from hpcstate.errors import HpcstateError
from hpcstate.probe.apt import AptSource, AptSources
from hpcstate.probe.nvidia_driver import DEVICES_UNIT, PERSISTENCED, KernelModules, NvidiaDriver
from hpcstate.probe.pci import PciDevice
from hpcstate.render import render

RELEASE = "trixie"
DRIVER = "550"

SOURCES = "/etc/apt/sources.list.d/hpcstate-nvidia.sources"
PREFERENCES = "/etc/apt/preferences.d/hpcstate-nvidia"
NOUVEAU_OFF = "/etc/modprobe.d/hpcstate-nouveau.conf"
MODULES_LOAD = "/etc/modules-load.d/hpcstate-nvidia.conf"
DEVICES = f"/etc/systemd/system/{DEVICES_UNIT}"

UNITS = (PERSISTENCED, DEVICES_UNIT)

_COMPONENTS = ("contrib", "non-free", "non-free-firmware")
_LIBRARIES = ("libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-persistenced", "nvidia-modprobe")
"""What computing needs, and nothing of X. Other parts are dependencies of these, of equal version."""

_DKMS: Mapping[KernelModules, str] = {
    "proprietary": "nvidia-kernel-dkms",
    "open": "nvidia-open-kernel-dkms",
}
_SUPPORT: Mapping[KernelModules, str] = {
    "proprietary": "nvidia-kernel-support",
    "open": "nvidia-open-kernel-support",
}
_MPS = "nvidia-cuda-mps"
_PINNED = ("nvidia-*", "libnvidia-*", "libcuda1", "firmware-nvidia-*")

_KEPLER = ((0x0FC0, 0x0FFF), (0x1001, 0x103C), (0x1180, 0x11FF), (0x1280, 0x12BA))
_MAXWELL, _TURING, _BLACKWELL = 0x1340, 0x1E00, 0x2900
"""PCI device ids of generations. Debian's lists (nvidia-detect 550.163.01: nvidia.ids, nvidia-tesla-470.ids)
and the table in the README of nvidia-open-kernel-dkms lie within these bounds: tests/unit/gpu/test_driver.py
compares. By bounds and not by the lists, for those lack what NVIDIA names by subsystem only (Tesla P4, 1bb3).
"""


def gpus(devices: Mapping[str, PciDevice]) -> list[PciDevice]:
    """NVIDIA's display (0300) and 3D controllers (0302), in the order of their addresses."""
    return [d for d in devices.values() if d["vendor"] == "10de" and d["class_code"][:4] in ("0300", "0302")]


def unsupported(device_id: str) -> str:
    """Why Debian 13's driver does not serve the device (four hex digits); empty when it does."""
    number = int(device_id, 16)
    if number >= _BLACKWELL:
        return (
            f"is newer than driver {DRIVER}, the newest in Debian 13, its backports and unstable: "
            "Blackwell needs 570 or newer with open kernel modules, from NVIDIA"
        )
    if number >= _MAXWELL:
        return ""
    if any(first <= number <= last for first, last in _KEPLER):
        return "is of the Kepler generation: its last driver is 470 (nvidia-tesla-470), which Debian 13 lacks"
    return "is older than Kepler: its last driver is 390 or older, which Debian 13 lacks"


def choose_modules(found: Sequence[PciDevice], wanted: str = "") -> KernelModules:
    """The kernel modules for the GPUs of a node: ``wanted``, else the proprietary ones, which serve them all.

    The open ones serve Turing and newer; in driver 550 NVIDIA calls them of beta quality for GeForce and
    workstation GPUs (README of nvidia-open-kernel-dkms 550.163.01, Compatible GPUs).

    Raises HpcstateError when ``wanted`` is no set of modules, or a GPU has no driver in Debian 13 or none in
    that set; all GPUs are named at once.
    """
    sets = get_args(KernelModules)
    if wanted and wanted not in sets:
        raise HpcstateError(
            f"there are no kernel modules {wanted!r}",
            where="nvidia_modules",
            hint=f"one of {', '.join(sets)}",
        )
    modules: KernelModules = "open" if wanted == "open" else "proprietary"
    reasons = []
    for device in found:
        reason = unsupported(device["device"])
        if not reason and modules == "open" and int(device["device"], 16) < _TURING:
            reason = "is older than Turing: only the proprietary kernel modules serve it (nvidia_modules)"
        if reason:
            name = device["device_name"] or f"10de:{device['device']}"
            reasons.append(f"{device['address']} ({name}) {reason}")
    if reasons:
        raise HpcstateError(
            "\n".join(reasons),
            hint="take it out of this node in the cluster file, or bring a driver for it in the node's image",
        )
    return modules


def kernel_flavour(release: str) -> str:
    """``cloud-amd64`` of ``6.12.107+deb13-cloud-amd64``: how Debian's kernel metapackages end.

    Raises HpcstateError for a kernel that is none of Debian's: its headers are not known.
    """
    match = re.fullmatch(r"\d+\.\d+\.\d+\S*?-((?:cloud-|rt-)?(?:amd64|arm64))", release)
    if match is None:
        raise HpcstateError(
            f"the running kernel {release} is none of Debian's: no package is known to have its headers",
            hint="boot the node with a kernel of Debian (linux-image-amd64 or linux-image-cloud-amd64)",
        )
    return match[1]


def packages(modules: KernelModules, kernel: str, *, mps: bool = False) -> list[str]:
    """What is installed and held together: the driver, and the metapackages of the kernel release ``kernel``.

    Headers and image in the same set: an image without its headers would boot without the driver. ``mps``
    adds NVIDIA's Multi-Process Service. Raises HpcstateError as ``kernel_flavour`` does.
    """
    flavour = kernel_flavour(kernel)
    names = [*_LIBRARIES, _DKMS[modules], f"linux-image-{flavour}", f"linux-headers-{flavour}"]
    return [*names, _MPS] if mps else names


def rivals(modules: KernelModules, driver: NvidiaDriver) -> list[str]:
    """Packages of the other kernel modules that are there: modprobe's configuration has room for one set."""
    other: KernelModules = "proprietary" if modules == "open" else "open"
    return [name for name in (_DKMS[other], _SUPPORT[other]) if name in driver["packages"]]


def missing(wanted: Sequence[str], driver: NvidiaDriver) -> list[str]:
    """The packages of ``wanted`` that are not installed, or not wholly."""
    there = {name for name, package in driver["packages"].items() if package["whole"]}
    return [name for name in wanted if name not in there]


def secure_boot_problem(driver: NvidiaDriver) -> str:
    """Why the kernel would refuse the modules that DKMS builds; empty when it would not."""
    if not driver["secure_boot"] or driver["key_enrolled"]:
        return ""
    return (
        "Secure Boot is on, and the firmware does not know DKMS's key: the kernel would refuse the driver.\n"
        "Either turn Secure Boot off in this machine's firmware; or, at its console: apt-get install dkms "
        "mokutil openssl; dkms generate_mok; mokutil --import /var/lib/dkms/mok.pub; reboot, and enroll the "
        "key when the firmware asks."
    )


def reboot_reasons(modules: KernelModules, driver: NvidiaDriver) -> list[str]:
    """Why the installed driver cannot be used before a reboot; empty when it can be, or is not installed."""
    reasons = []
    if driver["nouveau_loaded"]:
        reasons.append("nouveau is loaded")
    if driver["built"] and modules not in driver["built"].get(driver["kernel"], {}):
        kernels = ", ".join(kernel for kernel, sets in driver["built"].items() if modules in sets)
        if kernels:
            reasons.append(
                f"the driver is built for {kernels}, not for the running kernel {driver['kernel']}"
            )
    if driver["loaded"] and driver["library"] and driver["loaded"] != driver["library"]:
        reasons.append(f"the loaded module is {driver['loaded']}, the libraries are {driver['library']}")
    elif driver["loaded_modules"] and driver["loaded_modules"] != modules:
        reasons.append(f"the loaded modules are the {driver['loaded_modules']} ones, not the {modules} ones")
    return reasons


def not_built(modules: KernelModules, driver: NvidiaDriver) -> bool:
    """Whether DKMS has built ``modules`` for no kernel at all."""
    return not any(modules in sets for sets in driver["built"].values())


def source_entries(apt: AptSources) -> list[AptSource]:
    """The entries that bring Debian's other components, at the addresses of the system's own entries.

    Options such as ``Signed-By`` are repeated: apt refuses two entries of one suite that differ in them.
    Empty when the components are there. Raises HpcstateError when the system is not Debian 13, or has no
    entry of its main component.
    """
    if apt["codename"] != RELEASE:
        raise HpcstateError(
            f"the driver's packages are known for Debian 13 ({RELEASE}), not for {apt['codename'] or 'this'}",
            where="/etc/os-release",
            hint="build the node's image from Debian 13",
        )
    own = [source for source in apt["sources"] if source["path"] != SOURCES]
    releases = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
    entries, has_main = [], False
    for source in own:
        suites = [suite for suite in source["suites"] if suite in releases]
        if "main" not in source["components"] or not suites:
            continue
        has_main = True
        here = _components(own, source["uris"], suites)
        if lacking := [component for component in _COMPONENTS if component not in here]:
            entries.append(
                AptSource(
                    path=SOURCES,
                    uris=source["uris"],
                    suites=suites,
                    components=lacking,
                    options=source["options"],
                )
            )
    if not has_main:
        raise HpcstateError(
            f"apt has no source of {RELEASE} main: nothing tells where the driver could come from",
            where="/etc/apt",
            hint="give the node a source of Debian's packages",
        )
    return entries


def _components(sources: Sequence[AptSource], uris: Sequence[str], suites: Sequence[str]) -> set[str]:
    """The components that ``sources`` have of all ``suites`` at all ``uris``."""
    return {
        component
        for source in sources
        if set(source["uris"]) >= set(uris) and set(source["suites"]) >= set(suites)
        for component in source["components"]
    }


def files(apt: AptSources, count: int) -> dict[str, str]:
    """Content by path of what belongs on a node with ``count`` GPUs.

    Raises HpcstateError as ``source_entries`` does.
    """
    entries = source_entries(apt)
    content = {SOURCES: render("nvidia/sources.j2", sources=entries)} if entries else {}
    return {
        **content,
        PREFERENCES: render("nvidia/preferences.j2", packages=_PINNED),
        NOUVEAU_OFF: render("nvidia/nouveau.conf.j2"),
        MODULES_LOAD: render("nvidia/modules.conf.j2"),
        DEVICES: render("nvidia/devices.service.j2", count=count),
    }
