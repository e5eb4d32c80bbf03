"""What has to be in force on a node, and the difference to what is. Pure: model and facts in, drifts out.

A drift is mended by a command, or only named: where a command could destroy what somebody made on purpose.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hpcstate import programs
from hpcstate.model import Cluster, Node
from hpcstate.monitoring import places
from hpcstate.node import apptainer_files, base_files
from hpcstate.node.base_files import JOB_UID
from hpcstate.node.homes import owns_homes
from hpcstate.node.ssh import JOB_USER
from hpcstate.node.work_files import MODULES, SHARED
from hpcstate.probe.in_force import HostInForce, UnitState
from hpcstate.slurm.conf import CONF_DIRECTORY, JOB_TMP, configuration

STOPS = "stops here: "
"""What a host says first that is stopped: found by it in the log of a deploy."""

NAMED = "left as it is: "
"""What a line of a deploy begins with that names a drift; hpcstate.cluster.pyinfra finds it by that."""

NOLOGIN = "/usr/sbin/nologin"


@dataclass(frozen=True)
class Drift:
    """One difference: the ``key`` of its row, what is seen where and, if nothing mends it, the next step.
    ``mend`` is the command that mends it, empty where it is only named.
    """

    key: str
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Account:
    """An account that must be there. Without ``uid`` its number is that of ``folder``, which it owns: the
    package has taken a free one. Empty ``home`` and ``shell`` may be anything.
    """

    name: str
    uid: int | None
    folder: str
    home: str
    shell: str


@dataclass(frozen=True)
class Place:
    """A file or folder with its ``mode`` (octal digits) and ``owner`` (``user:group``). A missing one is made
    where it is a ``folder``, and is somebody else's concern where it is not.
    """

    path: str
    mode: str
    owner: str
    folder: bool = False


@dataclass(frozen=True)
class ToBeInForce:
    """What has to be in force on one node.

    ``time_source`` is the address that chronyd must follow, empty on the node that the others follow.
    ``known`` are the files that may lie where ``beside`` (patterns of paths) looks; one pattern a reason.
    """

    host: str
    accounts: tuple[Account, ...]
    places: tuple[Place, ...]
    kernel: Mapping[str, str]
    units: tuple[str, ...]
    time_source: str
    beside: Mapping[str, str]
    known: frozenset[str]

    @property
    def question(self) -> dict[str, Any]:
        """The arguments of hpcstate.probe.in_force.command."""
        return {
            "places": [place.path for place in self.places],
            "accounts": [account.name for account in self.accounts],
            "kernel": list(self.kernel),
            "units": [f"{unit}.service" for unit in self.units],
            "table": TABLE,
            "rules": base_files.FIREWALL,
            "beside": list(self.beside),
            "sets": _setting(self.kernel),
        }


TABLE = "inet hpcstate"

_BESIDE = {
    "/etc/ssh/sshd_config.d/*.conf": "sshd takes the first value that it reads",
    "/etc/hosts.equiv": "sshd takes the word of whoever it names for who comes, beside shosts.equiv",
    "/etc/chrony/conf.d/*.conf": "chronyd reads it beside ours",
    "/etc/chrony/sources.d/*.sources": "chronyd follows these servers beside ours",
    "/etc/sudoers.d/*": "sudo reads it, and may give rights by it that the cluster file does not",
}
_BESIDE_SLURM = {f"{CONF_DIRECTORY}/*.conf": "Slurm reads some files by their names, whoever wrote them"}
_KNOWN = (
    base_files.SSHD,
    base_files.CHRONY,
    "/etc/ssh/sshd_config.d/20-hostkey.conf",
    "/etc/ssh/sshd_config.d/50-cloud-init.conf",
    "/etc/sudoers.d/README",
    "/etc/sudoers.d/90-hpcstate",
    "/etc/sudoers.d/90-cloud-init-users",
    "/etc/sudoers.d/hpcstate-users",
)
_KNOWN_SLURM = ("gres.conf", "oci.conf", "plugstack.conf", "slurmdbd.conf")

_OPTIONS = r"OPTIONS=.*[^\"'[:space:]=]"


def to_be_in_force(cluster: Cluster, node: Node) -> ToBeInForce:
    """What ``node`` of ``cluster`` must have in force."""
    job_user = Account(JOB_USER, JOB_UID, f"/home/{JOB_USER}", f"/home/{JOB_USER}", "/bin/bash")
    home = Place(f"/home/{JOB_USER}", "750", f"{JOB_USER}:{JOB_USER}", folder=True)
    hpc = cluster.kind == "hpc"
    controls, computes = node is cluster.controller, node.role == "compute"
    names = [*configuration(cluster), *_KNOWN_SLURM] if hpc else []
    return ToBeInForce(
        host=node.name,
        accounts=(job_user, *(_DAEMONS if hpc else ())),
        places=(
            *((home,) if owns_homes(cluster, node) else ()),
            *(_OF_ALL if hpc and owns_homes(cluster, node) else ()),
            *(_slurm_places(node, names) if hpc else ()),
        ),
        kernel=base_files.SYSCTLS,
        units=(
            "ssh",
            "nftables",
            "chrony",
            *(("munge",) if hpc else ()),
            *(("slurmctld",) if hpc and controls else ("slurmd",) if hpc and computes else ()),
            *(("mariadb", "slurmdbd") if hpc and controls and cluster.accounting.on else ()),
            *(each.unit for each in places.watchers(cluster, node) if each not in places.OURS),
        ),
        time_source="" if controls else str(cluster.controller.address),
        beside={**_BESIDE, **(_BESIDE_SLURM if hpc else {})},
        known=frozenset((*_KNOWN, *(f"{CONF_DIRECTORY}/{name}" for name in names))),
    )


def homes_to_be_in_force(cluster: Cluster, node: Node) -> ToBeInForce:
    """Of that, what lies in the homes that ``node`` has of its own: it comes to light when others' homes are
    away from their place."""
    places = tuple(place for place in to_be_in_force(cluster, node).places if place.path.startswith("/home/"))
    return ToBeInForce(node.name, (), places, {}, (), "", {}, frozenset())


_OF_ALL = tuple(
    # What admins put there stays their group's, so that another one may change it.
    Place(path, "2775", f"root:{base_files.SUDO}", folder=True)
    for path in (SHARED, MODULES)
)

_DAEMONS = (
    # Debian's slurm-wlm-basic-plugins gives slurm this number, its munge takes a free one (their postinst).
    Account("slurm", 64030, "/var/lib/slurm", "", NOLOGIN),
    Account("munge", None, "/etc/munge", "", NOLOGIN),
)


def _slurm_places(node: Node, names: Sequence[str]) -> tuple[Place, ...]:
    """Those of Slurm, munge and containers: modes and owners are those of Debian's packages (their postinst)
    and of our own files. Slurm's secrets are the concern of who writes them.
    """
    simulated = node.simulated_gpus.count if node.simulated_gpus else 0
    return (
        Place(CONF_DIRECTORY, "755", "root:root", folder=True),
        *(Place(f"{CONF_DIRECTORY}/{name}", "644", "root:root") for name in names if name != "slurmdbd.conf"),
        Place("/var/lib/slurm", "755", "slurm:slurm", folder=True),
        *(
            Place(f"/var/lib/slurm/{daemon}", "755", "slurm:slurm", folder=True)
            for daemon, role in (("slurmctld", "controller"), ("slurmd", "compute"))
            if node.role == role
        ),
        *((Place(JOB_TMP, "755", "root:root", folder=True),) if node.role == "compute" else ()),
        Place("/var/log/slurm", "755", "slurm:slurm", folder=True),
        Place("/etc/munge", "700", "munge:munge", folder=True),
        Place("/var/lib/munge", "711", "munge:munge", folder=True),
        Place("/var/log/munge", "700", "munge:munge", folder=True),
        Place(apptainer_files.CACHE, "1777", "root:root", folder=True),
        Place("/dev/fuse", "666", "root:root"),
        *(Place(f"/dev/nvidia{number}", "666", "root:root") for number in range(simulated)),
    )


def drifts(wanted: ToBeInForce, found: HostInForce) -> list[Drift]:
    """The differences, in the order in which they have to be mended: accounts first, which own the rest."""
    return [
        *_names(wanted, found),
        *_accounts(wanted, found),
        *_places(wanted, found),
        *_kernel(wanted, found),
        *_units(wanted, found),
        *_rules(found),
        *_time(wanted, found),
        *_beside(wanted, found),
    ]


def _names(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    if (found["host"], found["named"]) == (wanted.host, wanted.host):
        return
    name = shlex.quote(wanted.host)
    write = programs.replace_file("/etc/hostname", "644")
    yield Drift(
        "hostname",
        f"the host is called {found['host'] or 'nothing'}, in /etc/hostname {found['named'] or 'nothing'}: "
        f"slurmd looks for itself in slurm.conf by that name ({wanted.host})",
        f"hostname {name} && echo {name} | {{ {write}; }}",
    )


def _accounts(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    for account in wanted.accounts:
        there = found["accounts"].get(account.name)
        if there is None:
            words = (
                account.name,
                "" if account.uid is None else account.uid,
                account.folder,
                account.home or "/nonexistent",
                account.shell,
            )
            program = Path(__file__).with_name("account.sh")
            yield Drift(
                "account.deleted",
                f"there is no account {account.name}",
                programs.command(program, arguments=words),
            )
            continue
        if account.uid is not None and there["uid"] != account.uid:
            yield Drift(
                "account.uid",
                f"{account.name} has the number {there['uid']}, on the other nodes {account.uid}: Slurm and "
                "munge pass numbers. Files belong to one or the other, so it is yours to say what to change: "
                f"usermod --uid {account.uid} {account.name} and chown, or remove the node and start it anew",
            )
        changes = [
            f"--{option} {shlex.quote(value)}"
            for option, value, now in (
                ("home", account.home, there["home"]),
                ("shell", account.shell, there["shell"]),
            )
            if value and value != now
        ]
        if changes:
            yield Drift(
                "account.login",
                f"{account.name} has the home {there['home']} and the shell {there['shell'] or 'none'}",
                f"usermod {' '.join(changes)} {account.name}",
            )


def _places(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    for place in wanted.places:
        there = found["places"].get(place.path)
        if not place.folder and (there is None or there["kind"] == "directory"):
            continue  # what is missing, or is something else, is the concern of who makes it
        if there and (there["mode"], there["owner"]) == (place.mode, place.owner):
            continue
        path = shlex.quote(place.path)
        user, group = place.owner.split(":")
        if there is None:
            mend = f"install --directory --mode={place.mode} --owner={user} --group={group} {path}"
        else:
            mend = f"chown {place.owner} {path} && chmod {place.mode} {path}"
        seen = f"is {there['owner']} {there['mode']}" if there else "is not there"
        yield Drift("place", f"{place.path} {seen} instead of {place.owner} {place.mode}", mend)


def _kernel(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    for key, value in wanted.kernel.items():
        now = found["kernel"].get(key, value)
        if now != value:
            yield Drift(
                "kernel", f"{key} is {now} instead of {value}", f"sysctl --quiet --write {key}={value}"
            )


def _units(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    units = {name: found["units"][name] for name in wanted.units if name in found["units"]}
    masked = [f"{name}.service" for name, unit in units.items() if unit["load"] == "masked"]
    stale = [f"{name}.service" for name, unit in units.items() if unit["reload"]]
    if masked:
        names = " ".join(masked)
        yield Drift("unit.masked", f"{names}: masked", f"systemctl unmask --quiet {names}")
    if stale:
        said = "systemd has not read the newest files of it (daemon-reload)"
        yield Drift("unit.reload", f"{', '.join(stale)}: {said}", "systemctl daemon-reload")
    for name, unit in units.items():
        yield from _overridden(name, unit)


def _overridden(name: str, unit: UnitState) -> Iterator[Drift]:
    """What somebody put beside or in the place of a unit of a package."""
    others = [path for path in unit["drop_ins"] if _is_of_host(path) and path != base_files.drop_in(name)]
    if others:
        yield Drift(
            "unit.drop-in",
            f"{name}.service also runs by {', '.join(others)}, which hpcstate did not write: "
            f"`systemctl cat {name}` shows it; remove what should not be there, and deploy again",
        )
    if unit["load"] != "masked" and _is_of_host(unit["fragment"]):
        yield Drift(
            "unit.file",
            f"{name}.service is {unit['fragment']} instead of the package's: remove it if it should not be "
            "there, and deploy again",
        )


def _is_of_host(path: str) -> bool:
    """Whether a file of a unit was written on this host: packages have theirs in /usr/lib."""
    return path.startswith(("/etc/systemd/", "/run/systemd/system"))


def _rules(found: HostInForce) -> Iterator[Drift]:
    loaded, file = found["rules_loaded"], found["rules_file"]
    # Without a digest of the file, nft can make nothing of it here: then only "nothing is loaded" is certain.
    if not loaded or (file and loaded != file):
        said = "is not loaded" if not loaded else f"is loaded otherwise than {base_files.FIREWALL} says"
        mend = f"nft --file {base_files.FIREWALL}"
        yield Drift("rules", f"the firewall's table {TABLE} {said}", mend)


def _time(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    sources = found["sources"]
    if wanted.time_source and sources is not None and wanted.time_source not in sources:
        said = f"{', '.join(sources) or 'nobody'} instead of the controller ({wanted.time_source})"
        yield Drift("time", f"chronyd follows {said}", "systemctl restart chrony")


def _beside(wanted: ToBeInForce, found: HostInForce) -> Iterator[Drift]:
    for path in found["beside"]:
        if path not in wanted.known:
            why = next((why for what, why in wanted.beside.items() if PurePosixPath(path).match(what)), "")
            yield Drift("beside", f"{path} is not hpcstate's; {why}. Remove it if it should not be there")
    for path in found["sets"]:
        if path.startswith("/etc/default/"):
            yield Drift(
                "options",
                f"{path} gives the daemon options of its own, beside {CONF_DIRECTORY}: comment them out if "
                "they should not be there, and restart the daemon",
            )
        elif PurePosixPath(path).name > PurePosixPath(base_files.SYSCTL).name:
            keys = ", ".join(wanted.kernel)
            yield Drift(
                "kernel.later",
                f"{path} is read after {base_files.SYSCTL} and sets one of {keys}: at the next boot its "
                "value is in force until the next deploy. Take that line out",
            )


def _setting(kernel: Mapping[str, str]) -> str:
    """An extended regular expression that fits a line which sets one of ``kernel`` (sysctl.d(5)) or the
    options of a daemon."""
    keys = [re.escape(key).replace(r"\.", "[./]") for key in kernel]
    return rf"^[[:space:]]*(-?({'|'.join(keys)})[[:space:]]*=|[A-Z_]*{_OPTIONS})"
