"""What a tree has: from dpkg's own status file."""

from __future__ import annotations

from hpcstate.artifact.debian import installed

# Debian 13, /var/lib/dpkg/status, shortened.
STATUS = """Package: tzdata
Status: install ok installed
Priority: required
Version: 2026b-0+deb13u1
Description: time zone and daylight-saving time data
 This package contains data: Version: 9 is not its own.

Package: openmpi-bin
Status: install ok installed
Version: 5.0.7-1
Conffiles:
 /etc/openmpi/openmpi-mca-params.conf 0123456789abcdef0123456789abcdef

Package: removed
Status: deinstall ok config-files
Version: 1.0

Package: half
Status: install ok half-configured
Version: 2.0
"""


def test_installed_packages_and_their_versions() -> None:
    assert installed(STATUS) == {"tzdata": "2026b-0+deb13u1", "openmpi-bin": "5.0.7-1"}


def test_an_empty_file_has_none() -> None:
    assert installed("") == {}
