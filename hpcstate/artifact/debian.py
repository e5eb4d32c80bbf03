"""A Debian tree as a tar: the same packages give the same bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hpcstate.host import tools
from hpcstate.run import run

EPOCH = 1735689600
"""SOURCE_DATE_EPOCH: 2025-01-01. No file of what is built here is younger (reproducible-builds.org)."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_UNREAD = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
)
"""What no program reads; the copyright files stay."""

_CLEAN = (
    # What differs from one run to the next, and what belongs to the machine that built it. Not the tree's
    # /tmp: mmdebstrap's apt.conf lies there until its last step, which would then clean the host's own lists.
    'cd "$1" && rm -rf var/log/* var/cache/ldconfig var/cache/debconf var/cache/man root/.cache',
    'cd "$1" && rm -f etc/hostname etc/machine-id var/lib/dbus/machine-id',
)


_FIELD = re.compile(r"^(Package|Version|Status): (.+)$", re.MULTILINE)


def sources(release: str) -> list[str]:
    """The lines of sources.list(5) for ``release`` on the host's own mirrors."""
    mirror = tools.host_mirror()
    lines = [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    if security := tools.host_security_mirror():
        lines.append(f"deb {security} {release}-security main")
    return lines


def write_tar(
    target: Path, release: str, packages: Sequence[str], *, hooks: Sequence[str] = ()
) -> dict[str, str]:
    """Write the tree of ``packages`` and what they need to the tar ``target``; return package versions.

    ``hooks`` are shell commands; ``$1`` is the tree (mmdebstrap(1), --customize-hook).

    Raises HpcstateError when the mirror or a package fails, with the last lines.
    """
    words: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=essential", "--format=tar"]
    words += [f"--keyring={KEYRING}", '--aptopt=APT::Install-Recommends "false"']
    words += ["--dpkgopt=force-unsafe-io"]
    words += [f"--dpkgopt=path-exclude={path}" for path in _UNREAD]
    words += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    words += [f"--include={','.join(sorted(packages))}"] if packages else []
    words += [f"--customize-hook={hook}" for hook in (*hooks, *_CLEAN)]
    words += [release, target, *sources(release)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"}
    run(words, env=environment, hint="is the Debian mirror reachable? the next run starts this step again")
    # From the tree itself: a hook, which may run as another user, could not write it down for us.
    return installed(run(["tar", "-xOf", target, "./var/lib/dpkg/status"]).stdout)


def installed(status: str) -> dict[str, str]:
    """Packages and their versions by dpkg's ``status`` file (deb-control(5) stanzas)."""
    stanzas = (dict(_FIELD.findall(stanza)) for stanza in status.split("\n\n"))
    return {
        stanza["Package"]: stanza["Version"]
        for stanza in stanzas
        if stanza.get("Status", "").endswith(" installed") and "Version" in stanza
    }
