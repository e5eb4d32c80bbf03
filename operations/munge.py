"""munge: the key that all nodes of a cluster share, and its daemon."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.munge import MungeKey
from facts.slurm import SlurmDaemons
from hpcstate import programs
from hpcstate.node.managed import Managed
from operations.util.arguments import operation
from operations.util.commands import stop_host

KEY = "/etc/munge/munge.key"

INSTALL = Path(__file__).with_name("munge_install.sh")

MANAGED = (
    Managed("munge.key", "the cluster's key", "/etc/munge/munge.key", "digest, mode, owner", "mended"),
    Managed("munge.daemon", "munged runs, and starts at boot", "munge.service", "systemctl show", "mended"),
)


@operation()
def key(path: str) -> Generator[PyinfraCommand, None, None]:
    """The host has the munge key of the local file ``path``, mode 0400, owned by munge; munged has read it.

    Compared by digest. The key travels on standard input, so that it stands in no argv, diff, log or
    temporary file; munged(8) refuses a key that others can read.
    """
    content = Path(path).read_bytes()
    wanted = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "user": "munge",
        "group": "munge",
        "mode": "400",
    }
    if host.get_fact(MungeKey) == wanted:
        host.noop("the munge key is that of the cluster")
        return
    yield StringCommand(
        programs.command(programs.REPLACE, INSTALL, arguments=[KEY]),
        _stdin=base64.b64encode(content).decode(),
    )


@operation()
def daemon() -> Generator[PyinfraCommand, None, None]:
    """munged runs, starts at boot, and accepts what it encoded."""
    munge = host.get_fact(SlurmDaemons)["munge"]
    if not munge["installed"]:
        yield stop_host(
            "munge is not installed: the image of this node lacks it (packer/hpc-base/image.yaml)"
        )
        return
    if munge["active"] and munge["enabled"]:
        host.noop("munge is running")
        return
    yield StringCommand(
        "systemctl reset-failed munge 2>/dev/null; "
        "systemctl enable --quiet munge && systemctl start munge "
        "&& munge --no-input | unmunge > /dev/null "
        "|| { journalctl --unit=munge --lines=20 --no-pager >&2; exit 1; }"
    )
