"""NVIDIA's driver on a host: kernel modules on disk and loaded, libraries, packages, and obstacles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

KernelModules = Literal["proprietary", "open"]
"""NVIDIA's two sets of kernel modules. Only one of them can be loaded."""

PERSISTENCED = "nvidia-persistenced.service"
DEVICES_UNIT = "hpcstate-nvidia-devices.service"
"""Makes the device nodes at boot, before slurmd looks for them (templates/nvidia/devices.service.j2)."""

_PACKAGES = ("nvidia-*", "libnvidia-*", "libcuda1", "firmware-nvidia-*", "linux-image-*", "linux-headers-*")


class DriverPackage(TypedDict):
    """A package that is there. ``whole`` is false when its installation failed or was interrupted (a module
    that does not build fails it); ``held`` is dpkg's selection that apt-mark(8) sets.
    """

    version: str
    whole: bool
    held: bool


class DriverUnit(TypedDict):
    """What systemd says of a unit."""

    active: bool
    enabled: bool


class NvidiaDriver(TypedDict):
    """Empty strings, lists and mappings say that there is none.

    ``kernel`` is the running one (``6.12.107+deb13-cloud-amd64``), ``headers`` are the kernels whose headers
    are installed. ``loaded`` is the version of the loaded kernel module (``550.163.01``), ``loaded_modules``
    which set it is of. ``built`` are the modules on disk: version by set by kernel. ``library`` is the
    version of libnvidia-ml, which must equal that of the loaded module. ``nouveau_loaded`` and
    ``nouveau_built`` are about the free driver in the running kernel, ``nouveau_off`` whether modprobe.d
    has it blacklisted. ``secure_boot``: the kernel loads only modules with a known signature;
    ``key_enrolled``: DKMS's key is known to the firmware.
    """

    kernel: str
    headers: list[str]
    loaded: str
    loaded_modules: str
    built: dict[str, dict[str, str]]
    library: str
    packages: dict[str, DriverPackage]
    nouveau_loaded: bool
    nouveau_built: bool
    nouveau_off: bool
    secure_boot: bool
    key_enrolled: bool
    units: dict[str, DriverUnit]


def command(root: str = "") -> str:
    """The program nvidia_driver.sh; ``root`` is put before each path, also of dpkg's database."""
    units = f"{PERSISTENCED} {DEVICES_UNIT}"
    return programs.command(
        Path(__file__).with_name("nvidia_driver.sh"), arguments=_PACKAGES, root=root, units=units
    )


def parse(text: str) -> NvidiaDriver:
    """What ``command`` printed. Raises HpcstateError for a line that it does not print."""
    found = _nothing()
    unit = ""
    for line in text.splitlines():
        kind, _, value = line.partition(" ")
        if kind == "kernel":
            found["kernel"] = value
        elif kind == "headers":
            found["headers"].append(value)
        elif kind == "loaded":
            found["loaded"] = value
        elif kind == "nvrm":
            found["loaded_modules"] = "open" if "Open Kernel Module" in value else "proprietary"
        elif kind == "module":
            _add_module(found["built"], value)
        elif kind == "library":
            found["library"] = value.rpartition("libnvidia-ml.so.")[2]
        elif kind == "package":
            _add_package(found["packages"], value)
        elif line in ("nouveau loaded", "nouveau built", "nouveau off"):
            found[f"nouveau_{value}"] = True  # type: ignore[literal-required]
        elif kind == "secureboot":
            found["secure_boot"] = value.strip() == "1"
        elif line == "key enrolled":
            found["key_enrolled"] = True
        elif line.startswith("Id="):
            unit = line.removeprefix("Id=")
            found["units"][unit] = DriverUnit(active=False, enabled=False)
        elif line.startswith("ActiveState=") and unit:
            found["units"][unit]["active"] = line == "ActiveState=active"
        elif line.startswith("UnitFileState=") and unit:
            found["units"][unit]["enabled"] = line == "UnitFileState=enabled"
        elif line:
            raise HpcstateError(f"this is nothing about NVIDIA's driver: {line!r}")
    return found


def _nothing() -> NvidiaDriver:
    return NvidiaDriver(
        kernel="",
        headers=[],
        loaded="",
        loaded_modules="",
        built={},
        library="",
        packages={},
        nouveau_loaded=False,
        nouveau_built=False,
        nouveau_off=False,
        secure_boot=False,
        key_enrolled=False,
        units={},
    )


def _add_module(built: dict[str, dict[str, str]], value: str) -> None:
    """A module file. The open one has the licence ``Dual MIT/GPL``, the proprietary one ``NVIDIA``."""
    try:
        kernel, version, licence = value.split("\t")
    except ValueError as error:
        raise HpcstateError(f"this is no answer of modinfo: {value!r}") from error
    built.setdefault(kernel, {})["open" if "GPL" in licence else "proprietary"] = version


def _add_package(packages: dict[str, DriverPackage], value: str) -> None:
    fields = value.split(" ")
    if len(fields) != 4:
        raise HpcstateError(f"this is no answer of dpkg-query: {value!r}")
    name, status, want, version = fields
    if status not in ("not-installed", "config-files"):
        packages[name] = DriverPackage(version=version, whole=status == "installed", held=want == "hold")
