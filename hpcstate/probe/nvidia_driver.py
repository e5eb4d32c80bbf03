"""NVIDIA's driver on a host: kernel modules on disk and loaded, libraries, packages, and obstacles."""

from __future__ import annotations

import shlex
from typing import Literal, TypedDict

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
    """One line for each finding; ``root`` is put before each path, and dpkg's database is that of ``root``.

    Debian names its module files nvidia-current and nvidia-current-open, so ``modinfo nvidia`` finds none of
    them; NVIDIA's own installer and other packagers name them nvidia. Of each set modeset is looked at: to
    read the main module, 40 MB would be unpacked. ``build`` is a link of the headers' package. The fifth byte
    of an EFI variable is the first of its value (Linux, filesystems/efivarfs.rst).
    """
    base = shlex.quote(root) if root else ""
    names = " ".join(shlex.quote(pattern) for pattern in _PACKAGES)
    key = f"{base}/var/lib/dkms/mok.pub"
    return (
        "k=$(uname -r); printf 'kernel %s\\n' \"$k\"; "
        f"if read -r l 2>/dev/null <{base}/sys/module/nvidia/version; then printf 'loaded %s\\n' \"$l\"; fi; "
        f"if read -r l 2>/dev/null <{base}/proc/driver/nvidia/version; then printf 'nvrm %s\\n' \"$l\"; fi; "
        f"for d in {base}/lib/modules/*; do "
        '[ ! -L "$d/build" ] || printf \'headers %s\\n\' "${d##*/}"; '
        "grep -soE '^[^:]*/nvidia(-current(-open)?)?-modeset\\.ko[.a-z0-9]*:' \"$d/modules.dep\" | "
        'while IFS= read -r f; do f="$d/${f%:}"; '
        'v=$(modinfo -F version "$f"); l=$(modinfo -F license "$f"); '
        'printf \'module %s\\t%s\\t%s\\n\' "${d##*/}" "$v" "$l"; '
        "done; done; "
        f"[ ! -d {base}/sys/module/nouveau ] || echo nouveau loaded; "
        f"! grep -sq '/nouveau\\.ko' {base}/lib/modules/\"$k\"/modules.dep || echo nouveau built; "
        f"! grep -sqE '^[[:space:]]*blacklist[[:space:]]+nouveau' {base}/etc/modprobe.d/*.conf "
        f"{base}/usr/lib/modprobe.d/*.conf || echo nouveau off; "
        f'for f in {base}/usr/lib/*/libnvidia-ml.so.1; do [ ! -e "$f" ] || '
        'printf \'library %s\\n\' "$(readlink -f "$f")"; done; '
        f'for f in {base}/sys/firmware/efi/efivars/SecureBoot-*; do [ ! -r "$f" ] || '
        'printf \'secureboot %s\\n\' "$(od -An -tu1 -j4 -N1 "$f")"; done; '
        f"if [ -e {key} ] && mokutil --test-key {key} 2>/dev/null | grep -q 'already enrolled'; "
        "then echo key enrolled; fi; "
        f"dpkg-query --admindir={base}/var/lib/dpkg "
        "--showformat='package ${Package} ${db:Status-Status} ${db:Status-Want} ${Version}\\n' "
        f"--show {names} 2>/dev/null; "
        f"timeout 10 systemctl show --property=Id,ActiveState,UnitFileState {PERSISTENCED} {DEVICES_UNIT} "
        "2>/dev/null || :"
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
