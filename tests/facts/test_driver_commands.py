"""The commands of the facts NvidiaDriver and AptSourceEntries, run by sh on trees made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.probe import apt, nvidia_driver
from tests.facts.machine import AWKWARD, programs, run, stand_in

KERNEL = "6.12.107+deb13-cloud-amd64"
NEWER = "6.12.120+deb13-cloud-amd64"
PROGRAMS = ("grep", "od", "readlink", "timeout", "cat", "sh")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with few programs: those of a node without dpkg, kmod and systemd fail."""
    folder = programs(tmp_path / "tools", PROGRAMS)
    stand_in(folder, "uname", f"echo {KERNEL}")
    return folder


def write(root: Path, path: str, content: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def driver_root(tmp_path: Path) -> Path:
    """Two kernels, of which the newer one has the modules; the other one runs, with nouveau."""
    root = tmp_path / AWKWARD
    modules = "updates/dkms/nvidia-current-modeset.ko.xz: x\nupdates/dkms/nvidia-current.ko.xz:\n"
    write(root, f"lib/modules/{NEWER}/modules.dep", modules)
    (root / f"lib/modules/{NEWER}/build").symlink_to("/usr/src/nowhere")
    nouveau = "kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz:\n"
    write(root, f"lib/modules/{KERNEL}/modules.dep", nouveau)
    write(root, "sys/module/nouveau/refcnt", "0\n")
    write(root, "sys/module/nvidia/version", "550.163.01\n")
    write(
        root,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550\nGCC\n",
    )
    write(root, "etc/modprobe.d/x.conf", "# blacklist nothing\n  blacklist  nouveau\n")
    write(root, "sys/firmware/efi/efivars/SecureBoot-8be4df61", bytes((6, 0, 0, 0, 1)))
    write(root, "var/lib/dkms/mok.pub", b"key")
    library = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
    write(root, f"{library}.550.163.01", "")
    (root / f"{library}.1").symlink_to("libnvidia-ml.so.550.163.01")
    return root


def test_the_driver_of_a_whole_tree(tools: Path, tmp_path: Path) -> None:
    root = driver_root(tmp_path)
    stand_in(tools, "modinfo", 'case "$2" in version) echo 550.170.00 ;; license) echo NVIDIA ;; esac')
    stand_in(tools, "mokutil", '[ -r "$2" ] && echo "$2 is already enrolled"; exit 1')
    stand_in(
        tools,
        "dpkg-query",
        f"printf '%s\\n' \"$1\" >{tmp_path}/asked; echo package nvidia-smi installed hold 550.163.01-2",
    )
    stand_in(
        tools,
        "systemctl",
        "printf 'Id=nvidia-persistenced.service\\nActiveState=active\\nUnitFileState=x\\n'",
    )
    found = nvidia_driver.parse(run(nvidia_driver.command(str(root)), tools, tmp_path))
    assert (tmp_path / "asked").read_text() == f"--admindir={root}/var/lib/dpkg\n"
    assert not list(tmp_path.rglob("pwned"))
    assert found == {
        "kernel": KERNEL,
        "headers": [NEWER],
        "loaded": "550.163.01",
        "loaded_modules": "open",
        "built": {NEWER: {"proprietary": "550.170.00"}},
        "library": "550.163.01",
        "packages": {"nvidia-smi": {"version": "550.163.01-2", "whole": True, "held": True}},
        "nouveau_loaded": True,
        "nouveau_built": True,
        "nouveau_off": True,
        "secure_boot": True,
        "key_enrolled": True,
        "units": {"nvidia-persistenced.service": {"active": True, "enabled": False}},
    }


def test_a_node_without_any_of_it_is_quiet(tools: Path, tmp_path: Path) -> None:
    found = nvidia_driver.parse(run(nvidia_driver.command(str(tmp_path / "none")), tools, tmp_path))
    assert found == {**nvidia_driver.parse(""), "kernel": KERNEL}


def test_secure_boot_that_is_off_and_a_key_that_is_not_enrolled(tools: Path, tmp_path: Path) -> None:
    root = driver_root(tmp_path)
    write(root, "sys/firmware/efi/efivars/SecureBoot-8be4df61", bytes((6, 0, 0, 0, 0)))
    stand_in(tools, "modinfo", "echo x")
    stand_in(tools, "mokutil", 'echo "$2 is not enrolled"')
    found = nvidia_driver.parse(run(nvidia_driver.command(str(root)), tools, tmp_path))
    assert (found["secure_boot"], found["key_enrolled"]) == (False, False)


def test_the_sources_of_a_tree(tools: Path, tmp_path: Path) -> None:
    root = tmp_path / AWKWARD
    write(root, "etc/os-release", 'NAME="Debian"\nVERSION_CODENAME=trixie\n')
    write(root, "etc/apt/sources.list", "deb http://mirror.example/debian trixie main")
    write(root, "etc/apt/sources.list.d/a b.list", "deb http://b.example/ trixie contrib\n")
    write(root, "etc/apt/sources.list.d/c.sources", "Types: deb\nURIs: http://c.example/\nSuites: sid\n\\n\n")
    write(root, "etc/apt/sources.list.d/d.sources.save", "Types: deb\n")
    found = apt.parse_sources(run(apt.sources_command(str(root)), tools, tmp_path))
    assert found["codename"] == "trixie"
    assert [(source["path"], source["uris"]) for source in found["sources"]] == [
        (f"{root}/etc/apt/sources.list", ["http://mirror.example/debian"]),
        (f"{root}/etc/apt/sources.list.d/a b.list", ["http://b.example/"]),
        (f"{root}/etc/apt/sources.list.d/c.sources", ["http://c.example/"]),
    ]
    assert not list(tmp_path.rglob("pwned"))


def test_a_tree_without_sources(tools: Path, tmp_path: Path) -> None:
    nothing = run(apt.sources_command(str(tmp_path / "none")), tools, tmp_path)
    assert nothing == ""
    assert apt.parse_sources(nothing)["sources"] == []
