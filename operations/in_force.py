"""What is in force on a node beside its files: names, accounts, modes, the kernel, units, firewall, time."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.in_force import InForce
from hpcstate.node.drift import Drift, ToBeInForce, drifts
from hpcstate.node.managed import Managed
from operations.util.arguments import operation
from operations.util.commands import name_once, stop_host

MANAGED = (
    Managed("hostname", "the host's name", "the kernel, /etc/hostname", "`uname -n`, that file", "mended"),
    Managed("account.deleted", "the accounts hpc, slurm, munge", "/etc/passwd", "getent passwd", "mended"),
    Managed("account.uid", "the numbers of hpc and slurm", "/etc/passwd", "getent passwd", "named"),
    Managed("account.login", "home of hpc, shell of all three", "/etc/passwd", "getent passwd", "mended"),
    Managed(
        "place",
        "mode and owner of /etc/slurm and its files, /etc/munge, the state and logs of Slurm and munge, the "
        "home of hpc, the folder of modules, the cache of containers, /dev/fuse, devices of simulated GPUs",
        "the file systems",
        "stat",
        "mended",
    ),
    Managed(
        "kernel",
        "what containers ask of the kernel: user namespaces",
        "user.max_user_namespaces, kernel.unprivileged_userns_clone",
        "/proc/sys",
        "mended",
    ),
    Managed(
        "kernel.later",
        "the same at the next boot",
        "/etc/sysctl.d",
        "files that are read after ours",
        "named",
    ),
    Managed(
        "unit.masked",
        "units that must run",
        "ssh, nftables, chrony, munge, slurmctld, slurmd",
        "LoadState",
        "mended",
    ),
    Managed(
        "unit.reload", "the same: what systemd knows of their files", "systemd", "NeedDaemonReload", "mended"
    ),
    Managed(
        "unit.drop-in", "the same: drop-ins of others", "/etc/systemd, /run/systemd", "DropInPaths", "named"
    ),
    Managed(
        "unit.file", "the same: a unit in the place of the package's", "/etc/systemd", "FragmentPath", "named"
    ),
    Managed(
        "rules",
        "the firewall as it is loaded",
        "nft's table inet hpcstate",
        "`nft list table`, against what /etc/nftables.conf gives in a network namespace of its own",
        "mended",
    ),
    Managed(
        "time", "the controller is whom a node's clock follows", "chronyd", "`chronyc sources`", "mended"
    ),
    Managed(
        "beside",
        "files of others beside ours, which are read as well",
        "/etc/ssh/sshd_config.d, /etc/chrony, /etc/sudoers.d, /etc/slurm",
        "the names in these folders",
        "named",
    ),
    Managed(
        "options",
        "options that daemons are started with",
        "/etc/default/munge, slurmctld, slurmd",
        "lines …OPTIONS= with a value",
        "named",
    ),
)


@operation()
def mended(wanted: ToBeInForce) -> Generator[PyinfraCommand, None, None]:
    """What differs and can be mended without loss is as ``wanted``. Stops the host when it does not stay."""
    pending = _pending(wanted)
    if not pending:
        host.noop("what is in force is as it should be")
        return
    for drift in pending:
        yield StringCommand(drift.mend)
    if left := _pending(wanted):
        said = "\n".join(f"  {drift.text}" for drift in left)
        yield stop_host(
            f"mended, and otherwise again at once; something else on this node changes it:\n{said}"
        )


@operation()
def named(wanted: ToBeInForce) -> Generator[PyinfraCommand, None, None]:
    """Says what differs and is left as it is; never changes anything."""
    for drift in _seen(wanted):
        if not drift.mend:
            name_once(host, drift.text)
    host.noop("what is not mended was named")
    yield from ()


def _seen(wanted: ToBeInForce) -> list[Drift]:
    return drifts(wanted, host.get_fact(InForce, **wanted.question))


def _pending(wanted: ToBeInForce) -> list[Drift]:
    return [drift for drift in _seen(wanted) if drift.mend]
