"""The images, booted by themselves: to a login prompt, and with nobody's identity inside."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.artifact.store import Manifest
from hpcstate.host.packages import kvm_works
from hpcstate.image import declared as image
from hpcstate.image.disk import ROOT_START, SECTOR
from hpcstate.image.packer import QEMU
from hpcstate.run import run

NAMES = image.names()
BOOT_SECONDS = 400.0
SEED_NAME = "named-by-cloud-init"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """cloud-base booting by itself, with a cloud-init seed that knows nothing of hpcstate.

    The lab's cluster is made of hpc-base, which is seen booting there.
    """
    folder = tmp_path_factory.mktemp("boot")
    seed = folder / "seed"
    seed.mkdir()
    (seed / "meta-data").write_text(f"instance-id: lab\nlocal-hostname: {SEED_NAME}\n")
    (seed / "user-data").write_text("#cloud-config\n{}\n")
    run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", folder / "seed.iso", seed])
    disk, found = folder / "disk.qcow2", folder / "console"
    base = image.load("cloud-base").path
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", disk])
    words = [str(QEMU), "-m", "2G", "-smp", "2", "-drive", f"file={disk},if=virtio,cache=unsafe"]
    words += ["-nographic", "-monitor", "none", "-serial", f"file:{found}", "-nic", "none"]
    words += ["-accel", "kvm", "-cpu", "host"] if kvm_works() else ["-accel", "tcg", "-cpu", "max"]
    words += ["-drive", f"file={folder / 'seed.iso'},if=virtio,format=raw,readonly=on"]
    machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    yield found
    machine.kill()
    machine.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_image_is_small_and_compressed(name: str) -> None:
    path = image.load(name).path
    manifest = Manifest.read(path.with_name(path.name + ".json"))
    assert manifest is not None
    assert path.stat().st_size == manifest.size < 2_000_000_000
    assert '"compression-type": "zstd"' in run(["qemu-img", "info", "--output=json", path]).stdout


@pytest.mark.parametrize("name", NAMES)
def test_nobodys_identity_is_in_the_image(name: str, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    run(["qemu-img", "convert", "-O", "raw", image.load(name).path, raw])
    try:
        ask = f"{raw}?offset={ROOT_START * SECTOR}"

        def read(path: str) -> str:
            return run(["debugfs", "-R", f"cat {path}", ask]).stdout

        assert read("/etc/machine-id").strip() in ("", "uninitialized")
        assert "ssh_host_" not in run(["debugfs", "-R", "ls -p /etc/ssh", ask]).stdout
        assert "sshd_config" in run(["debugfs", "-R", "ls -p /etc/ssh", ask]).stdout
        users = {line.split(":")[0]: line for line in read("/etc/passwd").splitlines()}
        assert "packer" not in users
        root = next(line for line in read("/etc/shadow").splitlines() if line.startswith("root:"))
        assert root.split(":")[1].startswith(("!", "*"))
        assert read("/etc/sudoers.d/90-hpcstate") == ""
        assert "PermitRootLogin no" in read("/etc/ssh/sshd_config.d/10-hpcstate.conf")
        assert "PasswordAuthentication no" in read("/etc/ssh/sshd_config.d/10-hpcstate.conf")
        assert "policy drop" in read("/etc/nftables.conf")
        assert read("/etc/munge/munge.key") == ""
        # What lies in a registry of containers is a cluster's (TASK-021); /opt itself is Debian's.
        opt = run(["debugfs", "-R", "ls -p /opt", ask]).stdout
        assert "/./" in opt and "containers" not in opt
    finally:
        raw.unlink()


def test_the_image_boots_by_itself(console: Path) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    prompt, text = f"{SEED_NAME} login:", ""
    while time.monotonic() < deadline:
        text = console.read_text(errors="replace") if console.exists() else ""
        if prompt in text:
            return
        time.sleep(1)
    pytest.fail(f"no {prompt!r} on the serial console; its end:\n{text[-1500:]}")
