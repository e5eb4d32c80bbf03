"""Make this machine ready: Debian packages, tools of other releases, the Python environment.

`./hpc` runs it before every command, with Debian's Python: ``python3 -m hpcstate.bootstrap COMMAND``. Where
nothing is missing it says nothing and is done in a tenth of a second. Standard library only.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import replace

from hpcstate.errors import HpcstateError
from hpcstate.files import alone
from hpcstate.host import environment, tools
from hpcstate.host import packages as host_packages
from hpcstate.host.packages import Apt, Lacking
from hpcstate.paths import BUILD, ROOT, TOOLS, shown
from hpcstate.terminal import plural

VENV = ROOT / ".venv"


def main(command: str = "") -> int:
    """Make ready for ``command`` what is not; 0 when all is there, 2 when it could not be made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not ready(command):
            with alone(BUILD, say):
                make_ready(command)
    except HpcstateError as error:
        print(f"hpc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hpc: interrupted; the next ./hpc takes it up", file=sys.stderr)
        return 130
    return 0


def plan(command: str = "") -> Lacking:
    """What this machine lacks now for ``command``: the tests use programs that nothing else does."""
    wanted = tools.load()
    if command.partition(":")[0] != "test":
        wanted = replace(wanted, packages=tuple(p for p in wanted.packages if p.stage != "tests"))
    return host_packages.decide(wanted, host_packages.observe(wanted), TOOLS)


def environment_ready() -> bool:
    """Whether the Python environment is that of the lock."""
    return environment.read_stamp(VENV) == environment.wanted_stamp()


def ready(command: str = "") -> bool:
    """Whether nothing is to be done before ``command``."""
    return plan(command).empty and environment_ready()


def say(text: str) -> None:
    """A line of progress, on standard error: standard output belongs to the command that was asked for."""
    print(f"hpc: {text}", file=sys.stderr, flush=True)


def make_ready(command: str = "") -> None:
    """Install what is missing: the packages for Python first, the others while pip is at work."""
    lacking = plan(command)
    packages = PackageInstallation(lacking)
    if lacking.packages or lacking.backports:
        announce(lacking)
        packages.begin()
    try:
        if not environment_ready():
            started = time.monotonic()
            say("makes the Python environment .venv from requirements.lock")
            environment.make(VENV, ROOT, packages.wait_for_compiler)
            say(f"the Python environment is ready ({time.monotonic() - started:.0f} s)")
    finally:
        packages.wait()
    for deb in lacking.debs:
        say(f"fetches {deb.name} {deb.version} of {deb.suite} into {shown(TOOLS)}: {deb.why}")
        tools.unpack_deb(deb, tools=TOOLS)


def announce(lacking: Lacking) -> None:
    """Say which packages are installed, and why each."""
    elsewhere = {name: backport for backport in lacking.backports for name in backport.packages}
    count = len({package.name for package in lacking.packages} | elsewhere.keys())
    say(f"installs {plural(count, 'Debian package')}:")
    width = max((len(package.name) for package in lacking.packages), default=0)
    for package in lacking.packages:
        if package.name not in elsewhere:
            print(f"  {package.name:<{width}}  {package.why}", file=sys.stderr)
    for backport in lacking.backports:
        names = ", ".join(backport.packages)
        print(f"  {names} of {backport.suite}: {backport.why}", file=sys.stderr)


class PackageInstallation:
    """The installation of a plan's packages, stage by stage, in a thread of its own after the first."""

    def __init__(self, lacking: Lacking) -> None:
        self._lacking = lacking
        self._compiler = threading.Event()
        self._error: HpcstateError | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Install what the Python environment needs, and start the thread for the others.

        Raises HpcstateError when there is no way to root, or the first packages cannot be installed.
        """
        apt = Apt.with_rights(self._lacking)
        started = time.monotonic()
        apt.finish()
        apt.update()
        for backport in self._lacking.backports:
            host_packages.add_suite(apt, backport, say)
            host_packages.check_suite(backport, say)
        self._install(apt, "environment")
        self._thread = threading.Thread(target=self._others, args=(apt, started))
        self._thread.start()

    def _others(self, apt: Apt, started: float) -> None:
        try:
            self._install(apt, "compiler")
            self._compiler.set()
            for backport in self._lacking.backports:
                apt.install(backport.packages, backport.suite)
            self._install(apt, "machine")
            self._install(apt, "tests")
            say(f"the Debian packages are installed ({time.monotonic() - started:.0f} s)")
        except HpcstateError as error:
            self._error = error
        finally:
            self._compiler.set()

    def _install(self, apt: Apt, stage: str) -> None:
        elsewhere = {name for backport in self._lacking.backports for name in backport.packages}
        packages = (package for package in self._lacking.packages if package.stage == stage)
        if names := [package.name for package in packages if package.name not in elsewhere]:
            apt.install(names)

    def wait_for_compiler(self) -> None:
        """Return when the packages to compile with are installed. Raises HpcstateError when they failed."""
        if self._thread is not None:
            self._compiler.wait()
        self._raise()

    def wait(self) -> None:
        """Return when all the packages are installed. Raises HpcstateError when one failed."""
        if self._thread is not None:
            self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
