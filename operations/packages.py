"""Debian packages of a host."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages

from facts.packages import AddedPackages
from hpcstate import programs
from hpcstate.node.managed import Managed
from hpcstate.node.packages import RECORD, difference
from operations.util.arguments import operation
from operations.util.commands import name_once

APT_GET = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
"""Another package manager's lock is waited for; nothing is asked (apt.conf(5), debconf(7))."""

PROGRAM = Path(__file__).with_name("packages.sh")

MANAGED = (
    Managed(
        "packages",
        "Debian packages that the file adds; those that left it go, with what came along; others stay",
        f"dpkg; {RECORD} says which are ours",
        "dpkg-query",
        "mended",
        "a mirror",
    ),
)


@operation()
def added(wanted: Sequence[str], record: str = RECORD) -> Generator[PyinfraCommand, None, None]:
    """The packages ``wanted`` are installed, in any version; those that were installed for an earlier file
    are removed, where nothing that is not ours needs them: that is named. ``record`` is the file on the host
    that says which were."""
    found = difference(wanted, host.get_fact(AddedPackages, names=tuple(wanted), record=record))
    for text in found.stays:
        name_once(host, text)
    if not found.steps:
        host.noop(f"packages: {', '.join(wanted) or 'none is added'}")
        return
    for step in found.steps:
        yield StringCommand(
            programs.command(programs.REPLACE, PROGRAM, arguments=step, record=record, apt_get=APT_GET)
        )


@operation()
def installed(names: Sequence[str]) -> Generator[PyinfraCommand, None, None]:
    """The packages ``names`` are installed, without recommended ones, in any version.

    Package lists are fetched only when one is missing: an image has none, those of a host may be old.
    """
    missing = [name for name in names if name not in host.get_fact(DebPackages)]
    if not missing:
        host.noop(f"{', '.join(names)} are installed")
        return
    yield StringCommand(f"{APT_GET} update")
    yield StringCommand(f"{APT_GET} install --no-install-recommends", *missing)
