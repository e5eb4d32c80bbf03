"""Debian packages of a host."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages

APT_GET = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
"""Another package manager's lock is waited for; nothing is asked (apt.conf(5), debconf(7))."""


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
