"""Debian packages: only what is missing is installed."""

from __future__ import annotations

from operations import packages
from tests.operations.harness import run

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
WANTED = ["qemu-utils", "pci.ids"]
QEMU = {"qemu-utils": ["1:10.0.2"]}


def commands(there: dict[str, list[str]]) -> list[object]:
    return list(run(packages.installed, WANTED, facts={"deb.DebPackages": there}).commands)


def test_a_fresh_image_has_not_even_package_lists() -> None:
    install = f"{APT} install --no-install-recommends qemu-utils pci.ids"
    assert commands({}) == [f"{APT} update", install]


def test_only_what_is_missing_is_installed() -> None:
    install = f"{APT} install --no-install-recommends pci.ids"
    assert commands({**QEMU, "qemu-utils-extra": ["1"]}) == [f"{APT} update", install]


def test_what_is_installed_is_left() -> None:
    assert commands({**QEMU, "pci.ids": ["0.0~2025.06.09-1"]}) == []
    outcome = run(packages.installed, ["qemu-utils"], facts={"deb.DebPackages": QEMU})
    assert (outcome.commands, outcome.noops) == ([], ["qemu-utils are installed"])
