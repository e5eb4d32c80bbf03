"""tools.toml, the mirror of the host, and packages fetched from its pool (a local one here)."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.host import tools

INDEXES = """\
Docker|bookworm|stable|https://vendor.example/debian/
Debian|bookworm-security|main|http://mirror.example/debian-security/
Debian|bookworm-updates|main|http://mirror.example/debian/
Debian|bookworm|main|http://mirror.example/debian/
Debian Backports|bookworm-backports|main|http://elsewhere.example/debian/
"""


def test_the_security_archive_is_the_hosts() -> None:
    assert tools.security_mirror(INDEXES) == "http://mirror.example/debian-security"
    assert tools.security_mirror(INDEXES.replace("-security|", "|")) is None


@pytest.fixture
def pool(tmp_path: Path) -> tuple[str, tools.Deb]:
    """A mirror with one package file that contains a program, and the description of that package."""
    content = tmp_path / "content"
    program = content / "usr/bin/greet"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    program.chmod(0o755)
    control = content / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        "Package: greet\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: greets\n",
        encoding="utf-8",
    )
    file = tmp_path / "mirror/pool/main/g/greet/greet_1.0_all.deb"
    file.parent.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--build", content, file], check=True, capture_output=True)
    deb = tools.Deb(
        name="greet",
        why="greets",
        suite="sid",
        version="1.0",
        pool="pool/main/g/greet/greet_1.0_all.deb",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        program="usr/bin/greet",
        releases=frozenset(),
    )
    return f"file://{tmp_path}/mirror", deb


def test_the_file_names_a_reason_for_everything() -> None:
    wanted = tools.load()
    assert wanted.releases == ("bookworm", "trixie")
    assert all(package.why for package in wanted.packages)
    assert [stage for stage, _ in _runs(wanted)] == ["environment", "compiler", "machine", "tests"]


def _runs(wanted: tools.Tools) -> list[tuple[str, int]]:
    stages = [package.stage for package in wanted.packages]
    return [(stage, stages.count(stage)) for stage in dict.fromkeys(stages)]


def test_each_release_has_packer_exactly_once() -> None:
    wanted = tools.load()
    for release in wanted.releases:
        packages = [p for p in wanted.packages if p.name == "packer" and release in p.releases]
        assert len(packages) + int(release in wanted.debs["packer"].releases) == 1


@pytest.mark.parametrize("text", ["not toml", "releases = 3", "releases = []\n[packages.a]\nb = 1", "\xff"])
def test_a_broken_file_is_an_error_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tools.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(HpcstateError) as caught:
        tools.load(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("codename", "rows", "expected"),
    [
        ("bookworm", INDEXES, "http://mirror.example/debian"),
        ("trixie", INDEXES, "http://mirror.example/debian"),
        ("trixie", "Debian|trixie|main|mirror+file:/etc/apt/mirrors/debian.list/\n",
         "mirror+file:/etc/apt/mirrors/debian.list"),
    ],
)  # fmt: skip
def test_the_mirror_is_debians_of_the_hosts_release(codename: str, rows: str, expected: str) -> None:
    assert tools.mirror(rows, codename) == expected


@pytest.mark.parametrize("rows", ["", INDEXES.splitlines()[0], INDEXES.splitlines()[1], "nonsense"])
def test_without_a_debian_mirror_the_next_step_is_named(rows: str) -> None:
    with pytest.raises(HpcstateError, match="apt-get update"):
        tools.mirror(rows, "bookworm")


def test_a_package_file_is_fetched_verified_and_unpacked_once(
    pool: tuple[str, tools.Deb], tmp_path: Path
) -> None:
    base, deb = pool
    root = tools.unpack_deb(deb, tools=tmp_path / "tools", base=base)
    assert subprocess.check_output([root / deb.program], text=True) == "hello\n"
    assert tools.unpack_deb(deb, tools=tmp_path / "tools", base="file:///nowhere") == root
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["greet-1.0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "pinned is 000"),
        ({"pool": "pool/main/g/greet/greet_2.0_all.deb"}, "could not be fetched"),
        ({"program": "usr/bin/missing"}, "does not contain usr/bin/missing"),
    ],
)
def test_a_wrong_package_file_leaves_nothing(
    pool: tuple[str, tools.Deb], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    base, deb = pool
    with pytest.raises(HpcstateError, match=message) as caught:
        tools.unpack_deb(replace(deb, **change), tools=tmp_path / "tools", base=base)
    assert caught.value.where == "tools.toml: debs.greet"
    assert list((tmp_path / "tools").iterdir()) == []


def test_a_damaged_folder_is_replaced(pool: tuple[str, tools.Deb], tmp_path: Path) -> None:
    base, deb = pool
    root = tools.unpack_deb(deb, tools=tmp_path / "tools", base=base)
    (root / deb.program).unlink()
    assert (tools.unpack_deb(deb, tools=tmp_path / "tools", base=base) / deb.program).is_file()


def test_a_program_is_looked_for_in_the_environment_then_on_the_path_then_among_the_fetched(
    tmp_path: Path,
) -> None:
    chosen = tmp_path / "mine"
    chosen.write_text("#!/bin/sh\n", encoding="utf-8")
    chosen.chmod(0o755)
    assert tools.program("apptainer", environ={"HPCSTATE_APPTAINER": str(chosen)}) == chosen
    assert tools.program("sh", environ={"PATH": "/usr/bin"}) == Path("/usr/bin/sh")
    deb = tools.load().debs["apptainer"]
    unpacked = deb.root(tmp_path) / deb.program
    unpacked.parent.mkdir(parents=True)
    unpacked.touch()
    assert tools.program("apptainer", tools=tmp_path, environ={"PATH": str(tmp_path)}) == unpacked


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HPCSTATE_NO_SUCH_TOOL": "/nonexistent"}, "HPCSTATE_NO_SUCH_TOOL: /nonexistent is not a program"),
        ({"PATH": "/nonexistent"}, "'no-such-tool' is not installed"),
    ],
)
def test_a_missing_program_is_an_error(environ: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(HpcstateError) as caught:
        tools.program("no-such-tool", tools=tmp_path, environ=environ)
    assert message in str(caught.value)


def test_a_package_file_is_kept_and_verified_before_each_use(
    pool: tuple[str, tools.Deb], tmp_path: Path
) -> None:
    base, deb = pool
    file = tools.deb_file(deb, tools=tmp_path / "tools", base=base)
    assert file == tmp_path / "tools/greet_1.0_all.deb"
    assert tools.deb_file(deb, tools=tmp_path / "tools", base="file:///nowhere") == file
    file.write_bytes(file.read_bytes()[:-1])
    tools.deb_file(deb, tools=tmp_path / "tools", base=base)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == deb.sha256
    with pytest.raises(HpcstateError, match="pinned is 000"):
        tools.deb_file(replace(deb, sha256="0" * 64), tools=tmp_path / "tools", base=base)
    assert [path.name for path in (tmp_path / "tools").iterdir()] == [file.name]
