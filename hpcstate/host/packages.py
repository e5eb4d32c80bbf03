"""The Debian packages of this machine: what is missing, why it is needed, and its installation.

Standard library only: this module runs before the project's Python environment exists.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.run import Result, run, tail, which

SOURCES_FILE = Path("/etc/apt/sources.list.d/hpcstate-backports.sources")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Host:
    """What the decision needs to know of this machine.

    ``installed`` maps package names to versions; ``kvm`` tells whether guests run at native speed.
    """

    distribution: str
    codename: str
    installed: Mapping[str, str]
    kvm: bool


@dataclass(frozen=True)
class Lacking:
    """What this machine lacks: packages by stage, those from a backport, and single package files."""

    packages: tuple[tools.Package, ...]
    backports: tuple[tools.Backport, ...]
    debs: tuple[tools.Deb, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing is missing."""
        return not (self.packages or self.backports or self.debs)


Older = Callable[[str, str], bool]
"""Whether the first Debian version is older than the second."""


def older(version: str, other: str) -> bool:
    """Compare Debian versions as dpkg does."""
    return run(["dpkg", "--compare-versions", version, "lt", other], check=False).code == 0


def decide(wanted: tools.Tools, host: Host, build_tools: Path, older: Older = older) -> Lacking:
    """What ``host`` lacks of ``wanted``; package files count as there when unpacked below ``build_tools``.

    Raises HpcstateError when the host is not one of the releases that the project runs on.
    """
    if host.distribution != "debian" or host.codename not in wanted.releases:
        name = " ".join(word for word in (host.distribution, host.codename) if word) or "an unknown system"
        raise HpcstateError(
            f"this machine runs {name}; hpcstate runs on Debian 12 (bookworm) and 13 (trixie)",
            where="/etc/os-release",
            hint="use one of these, or a virtual machine or privileged container of one",
        )
    packages = tuple(
        package
        for package in wanted.packages
        if host.codename in package.releases and package.name not in host.installed
    )
    backports = tuple(
        backport
        for backport in wanted.backports
        if backport.release == host.codename
        and not (backport.only_without_kvm and host.kvm)
        and any(
            name not in host.installed or older(host.installed[name], backport.at_least)
            for name in backport.packages
        )
    )
    debs = tuple(
        deb
        for deb in wanted.debs.values()
        if host.codename in deb.releases and not (deb.root(build_tools) / deb.program).is_file()
    )
    return Lacking(packages, backports, debs)


def observe(wanted: tools.Tools) -> Host:
    """This machine, with the installed ones of the ``wanted`` packages.

    Raises HpcstateError where there is no dpkg, which is where decide() would refuse as well.
    """
    release = tools.os_release()
    names = {package.name for package in wanted.packages}
    names |= {name for backport in wanted.backports for name in backport.packages}
    layout = "${Package}\t${db:Status-Status}\t${Version}\n"
    query = ["dpkg-query", "--show", f"--showformat={layout}", *sorted(names)]
    listed = run(query, check=False).stdout if release["ID"] == "debian" else ""
    rows = [line.split("\t") for line in listed.splitlines()]
    installed = {name: version for name, status, version in rows if status == "installed"}
    return Host(release["ID"], release["VERSION_CODENAME"], installed, kvm_works())


def kvm_works(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether this processor can run guests at native speed, and this user may let it.

    A /dev/kvm that opens is no proof: without vmx or svm among the processor's flags (a PVM host), an
    ordinary guest dies in the kernel's decompressor. `virt-host-validate qemu` looks at the same flags.
    """
    return _has_kvm(cpuinfo, device) and os.access(device, os.R_OK | os.W_OK)


def kvm_refused(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> str:
    """Why this user may not use KVM where the processor could; empty where it may, or there is none."""
    refused = _has_kvm(cpuinfo, device) and not os.access(device, os.R_OK | os.W_OK)
    return f"{device} cannot be opened" if refused else ""


def _has_kvm(cpuinfo: Path, device: Path) -> bool:
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return device.exists() and bool(flags and {"vmx", "svm"} & set(flags.group(1).split()))


def sudo_allowed() -> bool:
    """Whether sudo works without a question, or after one where there is a terminal to answer on."""
    if which("sudo") is None:
        return False
    words = ["sudo", "-v"] if sys.stdin.isatty() else ["sudo", "-n", "true"]
    return run(words, check=False).code == 0


def by_hand(plan: Lacking) -> str:
    """The command that installs the packages of ``plan``, for a person to run as root."""
    install = "apt-get install --no-install-recommends"
    commands = ["apt-get update"]
    elsewhere: set[str] = set()
    for backport in plan.backports:
        elsewhere |= set(backport.packages)
        commands.append(f"{install} -t {backport.suite} {' '.join(backport.packages)}")
    if names := sorted({package.name for package in plan.packages} - elsewhere):
        commands.append(f"{install} {' '.join(names)}")
    return " && ".join(commands)


class Apt:
    """apt-get with the rights it needs: as root, or through sudo."""

    def __init__(self, prefix: Sequence[str]) -> None:
        self.prefix = tuple(prefix)
        self.complaints = ""

    @classmethod
    def with_rights(cls, plan: Lacking) -> Apt:
        """Find the way to root; sudo may ask for a password where there is a terminal.

        Raises HpcstateError naming the command to run as root where there is none.
        """
        if os.geteuid() == 0:
            return cls(())
        if not sudo_allowed():
            raise HpcstateError(
                "packages are missing, and this user is neither root nor allowed to use sudo here",
                hint=f"run as root: {by_hand(plan)}",
            )
        return cls(("sudo",))

    def get(self, *words: str, hint: str = "") -> Result:
        """Run apt-get; it waits for another package manager's lock, and asks nothing.

        Raises HpcstateError with its last lines; what stands in the way apt-get tells on standard output.
        """
        environment = ("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
        options = ("-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
        result = run([*self.prefix, *environment, "apt-get", *options, *words], check=False)
        if result.code != 0:
            told = tail(f"{result.stdout}{self.complaints}{result.stderr}")
            how = f"was ended by signal {-result.code}" if result.code < 0 else f"exited with {result.code}"
            raise HpcstateError(f"apt-get {how}:\n{told}", hint=hint)
        return result

    def update(self) -> None:
        """Fetch the package lists. A source that cannot be read is no error yet: it may not be needed."""
        self.complaints = self.get("update").stderr

    def install(self, names: Sequence[str], suite: str = "") -> None:
        """Install packages; from ``suite``, with what they need from there, where it is given.

        Raises HpcstateError with the last lines of apt-get, and with what the update complained about.
        """
        words = ["install", *(("-t", suite) if suite else ()), *names]
        self.get(*words, hint=f"is the network there? `apt-get {' '.join(words)}` shows the whole of it")

    def finish(self) -> None:
        """Take up an installation that was interrupted."""
        environment = ("env", "DEBIAN_FRONTEND=noninteractive")
        run([*self.prefix, *environment, "dpkg", "--configure", "-a"])

    def write(self, path: Path, text: str) -> None:
        """Write a file below /etc."""
        run([*self.prefix, "sh", "-c", 'umask 022; cat >"$1"', "sh", path], stdin=text)


def add_suite(apt: Apt, backport: tools.Backport, say: Callable[[str], None]) -> None:
    """Make ``backport.suite`` known to apt, from the mirror that apt uses already; unless it is known."""
    indexes = tools.debian_indexes()
    if any(line.split("|")[1:2] == [backport.suite] for line in indexes.splitlines()):
        return
    try:
        base = tools.mirror(indexes, backport.release)
    except HpcstateError as error:
        if not apt.complaints:
            raise
        message = f"{error.message}; apt-get update said:\n{tail(apt.complaints)}"
        raise HpcstateError(
            message, hint="is the network there, and do apt's sources name a mirror?"
        ) from error
    say(f"adds {SOURCES_FILE} ({backport.suite} from {base}): {backport.why}")
    apt.write(SOURCES_FILE, sources_entry(base, backport))
    apt.update()


def sources_entry(base: str, backport: tools.Backport) -> str:
    """The deb822 entry of sources.list(5) for a suite; its priority of 100 leaves other packages alone."""
    return (
        f"# Written by hpcstate: {backport.why}\n"
        f"Types: deb\nURIs: {base}\nSuites: {backport.suite}\nComponents: main\nSigned-By: {KEYRING}\n"
    )


def candidate(madison: str, suite: str) -> str | None:
    """The newest version that ``suite`` has, from the output of `apt-cache madison PACKAGE`."""
    for line in madison.splitlines():
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 3 and f" {suite}/" in f" {columns[2]}":
            return columns[1]
    return None


def check_suite(backport: tools.Backport, say: Callable[[str], None], older: Older = older) -> None:
    """Say it where the suite's version is not the tested one.

    Raises HpcstateError when its suite has no version that is new enough.
    """
    for name in backport.packages:
        version = candidate(run(["apt-cache", "madison", name]).stdout, backport.suite)
        if version is None or older(version, backport.at_least):
            raise HpcstateError(
                f"{name} must be {backport.at_least} or newer; {backport.suite} has {version or 'none'}",
                hint=f"{backport.why}. Debian 13 has it",
            )
        if version != backport.tested:
            say(f"takes {name} {version} of {backport.suite}; tested was {backport.tested}")
