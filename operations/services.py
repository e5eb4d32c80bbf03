"""systemd units of a host, several at once.

pyinfra's systemd.service asks two facts for each unit; here two facts serve all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host
from pyinfra.facts.systemd import SystemdEnabled, SystemdStatus

from hpcstate.node.managed import Managed
from operations.util.arguments import operation

MANAGED = (
    Managed(
        "services",
        "firewall, time and rotation of logs run, and start at boot",
        "nftables.service, chrony.service, logrotate.timer where Slurm keeps a record of jobs",
        "systemctl is-enabled, is-active",
        "mended",
    ),
)


@operation()
def state(
    on: Sequence[str] = (), off: Sequence[str] = (), *, now: bool = True
) -> Generator[PyinfraCommand, None, None]:
    """``on`` units start at boot, ``off`` ones do not; with ``now`` they are also started or stopped.

    Units are named in full (``chrony.service``). A unit that does not exist counts as off.
    """
    units = [*on, *off]
    enabled = host.get_fact(SystemdEnabled, services=units)
    active = host.get_fact(SystemdStatus, services=units) if now else {}
    to_enable = [unit for unit in on if not enabled.get(unit) or (now and not active.get(unit))]
    to_disable = [unit for unit in off if enabled.get(unit) or (now and active.get(unit))]
    option = ["--now"] if now else []
    if to_enable:
        # Without its reload (--no-reload) systemd has NeedDaemonReload for every unit from then on, and the
        # next deploy would reload it (seen with systemd 257).
        yield StringCommand("systemctl enable --quiet", *to_enable)
        if now:
            yield StringCommand("systemctl start", *to_enable)
    if to_disable:
        yield StringCommand("systemctl disable --quiet", *option, *to_disable)
    if not to_enable and not to_disable:
        host.noop(f"{', '.join(units)} are as they should be")
