"""The order of the setup: what pip waits for, and what happens where a package cannot be installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from hpcstate import bootstrap
from hpcstate.bootstrap import PackageInstallation
from hpcstate.errors import HpcstateError
from hpcstate.host import packages as host_packages
from hpcstate.host import tools
from hpcstate.host.packages import Apt, Lacking
from hpcstate.paths import ROOT

WANTED = tools.load()
BARE = Lacking(tuple(p for p in WANTED.packages if "bookworm" in p.releases), WANTED.backports, ())


class RecordedApt(Apt):
    """Notes what it is asked to install; refuses the packages in ``refused``."""

    def __init__(self, refused: str = "") -> None:
        super().__init__(())
        self.refused = refused
        self.installed: list[tuple[tuple[str, ...], str]] = []

    def update(self) -> None:
        self.installed.append(((), "update"))

    def finish(self) -> None:
        self.installed.append(((), "finish"))

    def install(self, names: Sequence[str], suite: str = "") -> None:
        if self.refused in names:
            raise HpcstateError(f"apt-get has no {self.refused}")
        self.installed.append((tuple(names), suite))


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> RecordedApt:
    recorded = RecordedApt()
    monkeypatch.setattr(Apt, "with_rights", lambda plan: recorded)
    monkeypatch.setattr(host_packages, "add_suite", lambda *_: None)
    monkeypatch.setattr(host_packages, "check_suite", lambda *_: None)
    return recorded


def test_packages_come_in_the_order_that_lets_pip_start_early(apt: RecordedApt) -> None:
    packages = PackageInstallation(BARE)
    packages.begin()
    packages.wait_for_compiler()
    packages.wait()
    finish, update, environment, compiler, backport, machine, tests = apt.installed
    assert (finish, update) == (((), "finish"), ((), "update"))
    assert "python3-venv" in environment[0]
    assert "libvirt-dev" in compiler[0]
    assert backport == (("qemu-system-x86", "qemu-utils"), "bookworm-backports")
    assert "libvirt-daemon-system" in machine[0]
    assert "qemu-utils" not in machine[0]
    assert "fish" in tests[0]


@pytest.mark.parametrize(
    ("command", "stages"),
    [
        ("test", {"environment", "compiler", "machine", "tests"}),
        ("test:unit", {"environment", "compiler", "machine", "tests"}),
        ("up", {"environment", "compiler", "machine"}),
        ("", {"environment", "compiler", "machine"}),
    ],
)
def test_what_only_tests_use_is_installed_for_tests(
    command: str, stages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = host_packages.Host("debian", "bookworm", {}, kvm=True)
    monkeypatch.setattr(host_packages, "observe", lambda wanted: bare)
    assert {package.stage for package in bootstrap.plan(command).packages} == stages


def test_without_anything_missing_nobody_waits() -> None:
    packages = PackageInstallation(Lacking((), (), ()))
    packages.wait_for_compiler()
    packages.wait()


@pytest.mark.parametrize(("refused", "compiles"), [("libvirt-dev", False), ("zstd", True)])
def test_a_package_that_cannot_be_installed_is_an_error(
    apt: RecordedApt, refused: str, compiles: bool
) -> None:
    apt.refused = refused
    packages = PackageInstallation(BARE)
    packages.begin()
    if not compiles:
        with pytest.raises(HpcstateError, match=refused):
            packages.wait_for_compiler()
    with pytest.raises(HpcstateError, match=refused):
        packages.wait()


@pytest.mark.parametrize(
    ("outcome", "code"), [(None, 0), (HpcstateError("no apt"), 2), (KeyboardInterrupt(), 130)]
)
def test_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: BaseException | None,
    code: int,
) -> None:
    def ready(command: str) -> bool:
        if outcome is not None:
            raise outcome
        return True

    monkeypatch.setattr(bootstrap, "ready", ready)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert bootstrap.main() == code
    assert capsys.readouterr().err.startswith("hpc: ") == (code != 0)


def test_the_setup_runs_without_the_environment_it_makes() -> None:
    words = [
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        "import sys; sys.path.insert(0, '.'); import hpcstate.bootstrap",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_progress_leaves_standard_output_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap.announce(BARE)
    printed = capsys.readouterr()
    assert printed.out == ""
    for words in ("installs ", "libvirt-dev ", "qemu-system-x86, qemu-utils of bookworm-backports"):
        assert words in printed.err
