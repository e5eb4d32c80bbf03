"""Debian packages: only what is missing is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.node.packages import RECORD
from hpcstate.probe import packages as probe
from operations import packages
from tests.operations.harness import Outcome, run

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
WANTED = ["qemu-utils", "pci.ids"]
QEMU = {"qemu-utils": ["1:10.0.2"]}


def commands(there: dict[str, list[str]]) -> list[object]:
    return list(run(packages.installed, WANTED, facts={"deb.DebPackages": there}).commands)


def test_a_fresh_image_has_not_even_package_lists() -> None:
    install = f"{APT} install --no-install-recommends qemu-utils pci.ids"
    assert commands({}) == [f"{APT} update", install]


def test_only_what_is_missing_is_installed() -> None:
    install = f"{APT} install --no-install-recommends pci.ids"
    assert commands({**QEMU, "qemu-utils-extra": ["1"]}) == [f"{APT} update", install]


def test_what_is_installed_is_left() -> None:
    assert commands({**QEMU, "pci.ids": ["0.0~2025.06.09-1"]}) == []
    outcome = run(packages.installed, ["qemu-utils"], facts={"deb.DebPackages": QEMU})
    assert (outcome.commands, outcome.noops) == ([], ["qemu-utils are installed"])


NONE = probe.parse("")
HTOP = probe.parse("own htop\nwith libnl-3-200\ninstalled htop\ninstalled libnl-3-200\n")


def added(wanted: list[str], found: probe.PackagesState) -> Outcome:
    return run(packages.added, wanted, facts={"facts.packages.AddedPackages": {"*": found}})


def steps(wanted: list[str], found: probe.PackagesState) -> list[str]:
    """The words that the program is given, a line for each call."""
    lines = [str(command).splitlines() for command in added(wanted, found).commands]
    assert all(call[0].startswith(f"record={RECORD} ") for call in lines)
    return [call[1].removeprefix("set -- ") for call in lines]


def test_a_package_that_the_file_adds_is_installed() -> None:
    assert steps(["htop", "tmux"], NONE) == ["add htop tmux"]
    assert steps(["htop", "tmux"], HTOP) == ["add tmux"]


def test_what_is_as_the_file_says_is_left() -> None:
    assert added(["htop"], HTOP).noops == ["packages: htop"]
    assert added([], NONE).noops == ["packages: none is added"]


def test_one_that_was_there_before_is_never_removed() -> None:
    assert steps([], probe.parse("installed htop\n")) == []


def test_one_that_left_the_file_is_removed() -> None:
    assert steps([], HTOP) == ["remove htop"]


def test_one_that_somebody_removed_is_installed_again_or_forgotten() -> None:
    removed = probe.parse("own htop\n")
    assert steps(["htop"], removed) == ["add htop"]
    assert steps([], removed) == ["forget htop"]


def test_one_that_came_along_can_be_wanted() -> None:
    assert steps(["htop", "libnl-3-200"], HTOP) == ["own libnl-3-200"]


def test_one_that_another_one_of_the_file_needs_stays_with_it() -> None:
    found = probe.parse("own a\nown b\ninstalled a\ninstalled b\nneeds a b\n")
    assert steps(["b"], found) == ["along a"]


def test_one_that_others_need_is_named_and_left() -> None:
    found = probe.parse("own tmux\ninstalled tmux\nneeds tmux byobu\n")
    outcome = added([], found)
    assert outcome.commands == []
    assert "byobu, which hpcstate did not install" in outcome.host.said[0]


APT_GET = """#!/bin/sh
echo "$*" >>"$FAKE/asked"
case "$*" in
*update) echo 'W: Failed to fetch http://away  Could not resolve' ;;
*"--simulate install --no-install-recommends htop")
  echo 'Inst libc6 [2.41-1] (2.41-2 Debian:13 [amd64])'
  echo 'Inst libnl-3-200 (3.7.0-2 Debian:13 [amd64])'; echo 'Inst htop (3.4.1-5 Debian:13 [amd64])';;
*"--simulate install --no-install-recommends timesyncd") echo 'Remv chrony [4.6]';;
*"--simulate remove --auto-remove htop") printf 'Remv %s [1]\\n' htop libnl-3-200 cowsay;;
"--simulate remove tmux") printf 'Remv %s [1]\\n' tmux byobu;;
*broken*) echo 'E: Failed to fetch http://deb: Could not connect' >&2; exit 100;;
esac
"""
APT_CACHE = """#!/bin/sh
[ "$2" = unknown ] || printf '%s:\\n  Installed: (none)\\n  Candidate: 1\\n' "$2"
"""
DPKG_QUERY = """#!/bin/sh
for name; do
  case "$name" in tmux|htop) echo "installed $name";; cowsay) echo "config-files $name";; esac
done
exit 1
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a node: Debian's programs that only write down what they are asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs_of = {"apt-get": APT_GET, "apt-cache": APT_CACHE, "dpkg-query": DPKG_QUERY, "apt-mark": APT_GET}
    for name, text in programs_of.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


def act(node: Path, *step: str) -> subprocess.CompletedProcess[str]:
    record = node / "packages"
    files = (programs.REPLACE, packages.PROGRAM)
    text = programs.command(*files, arguments=step, record=record, apt_get=packages.APT_GET)
    return subprocess.run(["dash", "-c", text], capture_output=True, text=True, timeout=120, check=False)


def test_what_comes_along_is_noted_and_goes_with_it_and_nothing_else(node: Path) -> None:
    assert act(node, "add", "htop").returncode == 0
    assert (node / "packages").read_text() == "with libnl-3-200\nown htop\n"
    assert act(node, "remove", "htop").returncode == 0
    assert (node / "packages").read_text() == ""
    asked = (node / "asked").read_text()
    assert "-q -y -o DPkg::Lock::Timeout=300 remove htop libnl-3-200\n" in asked


def test_kinds_change_and_gone_ones_are_forgotten(node: Path) -> None:
    (node / "packages").write_text("own a\nwith b\n")
    assert act(node, "own", "b").returncode == act(node, "along", "a").returncode == 0
    assert (node / "packages").read_text() == "own b\nwith a\n"
    assert act(node, "forget", "a").returncode == 0
    assert (node / "packages").read_text() == "own b\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "unknown",
            "no package unknown in the sources of this node, and one does not answer: Failed to fetch",
        ),
        ("timesyncd", "apt-get would remove chrony: nothing was changed"),
        ("broken", "apt-get: Failed to fetch http://deb: Could not connect\nis a mirror in reach?"),
    ],
)
def test_a_reason_is_a_sentence(node: Path, name: str, said: str) -> None:
    done = act(node, "add", name)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (node / "packages").exists()


def test_what_a_node_says_of_its_packages(node: Path) -> None:
    (node / "packages").write_text("own htop\nown tmux\nown cowsay\nwith libnl-3-200\n")
    text = probe.command(["htop"], str(node / "packages"))
    done = subprocess.run(["dash", "-c", text], capture_output=True, text=True, timeout=120, check=True)
    assert probe.parse(done.stdout) == {
        "own": ["htop", "tmux", "cowsay"],
        "along": ["libnl-3-200"],
        "installed": ["htop", "tmux"],
        "needs": {"tmux": ["byobu"]},
    }
