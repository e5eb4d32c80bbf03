"""States of NVIDIA's driver on a node, for tests of what is decided from them."""

from __future__ import annotations

from typing import Any

from hpcstate.gpu.driver import UNITS
from hpcstate.probe.apt import AptSource, AptSources
from hpcstate.probe.nvidia_driver import DriverPackage, DriverUnit, NvidiaDriver

KERNEL = "6.12.107+deb13-cloud-amd64"
VERSION = "550.163.01"
SET = (
    "libcuda1",
    "libnvidia-ml1",
    "nvidia-smi",
    "nvidia-persistenced",
    "nvidia-modprobe",
    "nvidia-kernel-dkms",
    "linux-image-cloud-amd64",
    "linux-headers-cloud-amd64",
)
BARE = NvidiaDriver(
    kernel=KERNEL,
    headers=[],
    loaded="",
    loaded_modules="",
    built={},
    library="",
    packages={"linux-image-cloud-amd64": DriverPackage(version="6.12.107-1", whole=True, held=False)},
    nouveau_loaded=False,
    nouveau_built=False,
    nouveau_off=False,
    secure_boot=False,
    key_enrolled=False,
    units={},
)


def state(base: NvidiaDriver, **changes: Any) -> NvidiaDriver:
    """``base`` with ``changes``."""
    return {**base, **changes}  # type: ignore[typeddict-item]


BUILT = state(
    BARE,
    headers=[KERNEL],
    built={KERNEL: {"proprietary": VERSION}},
    library=VERSION,
    packages={name: DriverPackage(version=f"{VERSION}-2", whole=True, held=True) for name in SET},
    nouveau_off=True,
    units={unit: DriverUnit(active=False, enabled=True) for unit in UNITS},
)
"""Installed, built for the running kernel and held; not loaded yet."""

RUNNING = state(
    BUILT,
    loaded=VERSION,
    loaded_modules="proprietary",
    units={unit: DriverUnit(active=True, enabled=True) for unit in UNITS},
)


def source(suites: str, components: str, path: str = "/etc/apt/sources.list", **options: str) -> AptSource:
    """An entry of one mirror."""
    return AptSource(
        path=path,
        uris=["http://mirror.example/debian"],
        suites=suites.split(),
        components=components.split(),
        options={name.replace("_", "-"): value for name, value in options.items()},
    )


MAIN = AptSources(codename="trixie", sources=[source("trixie", "main")])
