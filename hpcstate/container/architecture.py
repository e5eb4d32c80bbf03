"""The machine's architecture, as images name it: what was built for another one does not run here."""

from __future__ import annotations

import platform

from hpcstate.errors import HpcstateError

_GO = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
"""What uname(2) says, and GOARCH (image-spec, config.md: "architecture")."""

_SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
"""Other names that images have for them."""


def own() -> str:
    """The architecture of this machine (``amd64``)."""
    machine = platform.machine()
    return _GO.get(machine, machine)


def normal(name: str) -> str:
    """``name`` as GOARCH has it."""
    return _SAME.get(name.lower(), name.lower())


def demand(name: str, where: str) -> None:
    """Raises HpcstateError when what is at ``where`` is for another architecture than this machine's. An
    image that names none is taken: it is older than the rule, and its start is tried.
    """
    if name and normal(name) != own():
        raise HpcstateError(
            f"its image is for {name}, not for {own()}",
            where=where,
            hint=f"take the one for this machine: its own digest, or --platform linux/{own()} (pull, FROM)",
        )


def platform_arguments() -> dict[str, str]:
    """The build arguments that BuildKit gives to a Dockerfile by itself (Docker's reference, "Automatic
    platform ARGs in the global scope").
    """
    found: dict[str, str] = {}
    for side in ("BUILD", "TARGET"):
        found |= {f"{side}PLATFORM": f"linux/{own()}", f"{side}OS": "linux"}
        found |= {f"{side}ARCH": own(), f"{side}VARIANT": ""}
    return found
