"""A machine with an IOMMU under QEMU: a hypervisor without a GPU, and its PCI devices to give away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstate.host.packages import kvm_works
from hpcstate.image import declared as image
from hpcstate.image.packer import QEMU, TCG_CPU
from hpcstate.node.cidata import CloudInit, write_cidata
from hpcstate.node.secrets import known_hosts_line, new_key
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import PciHost
from hpcstate.run import run, tail
from tests.lab.conftest import run_shown

BOOT_SECONDS = 420.0

STARVED = "timer doesn't work through Interrupt-remapped IO-APIC"
"""The kernel panics so when it counts too few timer ticks while the IOMMU remaps interrupts: on a busy host
without KVM (Linux, arch/x86/kernel/apic/io_apic.c, timer_irq_works)."""

DISPLAY = "0000:00:02.0"
"""The VGA that firmware boots with."""

PAIR = ("0000:01:00.0", "0000:01:00.1")
"""A virtio network card and a virtio random number generator in one slot: the kernel has drivers for them."""

ALONE = "0000:02:00.0"
"""A virtio network card by itself."""

GPU, COMPANION = "0000:03:00.0", "0000:03:00.1"
"""A VGA (1234:1111) and an e1000e (8086:10d3) in one slot. Debian's cloud kernel has no driver for either."""

CARD = "0000:04:00.0"
"""An e1000e by itself."""

BRIDGE, BEHIND = "0000:05:00.0", "0000:06:01.0"
"""A bridge to conventional PCI and an e1000 (8086:100e) behind it, in one group: such a bus has no ACS."""

_DEVICES = (
    ("virtio-net-pci,addr=0x0.0x0,multifunction=on", "virtio-rng-pci,addr=0x0.0x1"),
    ("virtio-net-pci",),
    ("VGA,addr=0x0.0x0,multifunction=on", "e1000e,addr=0x0.0x1"),
    ("e1000e",),
    ("pcie-pci-bridge,id=conventional",),
)
"""What is behind each root port. Firmware numbers the buses in this order, from 1 on."""


class Q35:
    """The machine, and the ways to it: SSH for questions, pyinfra for changes.

    It answers at a loopback address of its own, so that its SSH has the usual port there.
    """

    def __init__(self, folder: Path, *, memory_mb: int = 2048, disk_gb: int = 0) -> None:
        self.folder, self.memory_mb = folder, memory_mb
        self.address = (
            f"127.{os.getpid() >> 14 & 0x7F | 0x80}.{os.getpid() >> 7 & 0x7F}.{os.getpid() & 0x7F | 0x80}"
        )
        self.key, self.known_hosts = folder / "user", folder / "known_hosts"
        user, host = new_key(self.key), new_key(folder / "host")
        self.known_hosts.write_text(known_hosts_line(self.address, host.public))
        write_cidata(CloudInit("hypervisor", "admin", user.public, host), folder / "seed.iso")
        base, disk = image.load("hpc-base").path, folder / "disk.qcow2"
        size = [f"{disk_gb}G"] if disk_gb else []
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", disk, *size])
        self.console = folder / "console"
        self.ssh = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-o", "BatchMode=yes"]
        self.ssh += ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "ConnectTimeout=5"]
        self.ssh += [
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={folder / 'mux'}",
            "-o",
            "ControlPersist=60",
        ]
        self.ssh += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]
        self.ssh += ["-o", "StrictHostKeyChecking=yes", f"admin@{self.address}"]
        data = {
            "ssh_hostname": self.address,
            "ssh_user": "admin",
            "ssh_key": str(self.key),
            "ssh_known_hosts_file": str(self.known_hosts),
            "ssh_strict_host_key_checking": "yes",
        }
        (folder / "inventory.py").write_text(f"hypervisor = [('hypervisor', {data!r})]\n")
        self.machine = self._power_on()

    def _power_on(self) -> subprocess.Popen[bytes]:
        self.console.write_text("")
        return subprocess.Popen(self._words(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _words(self) -> list[str]:
        kvm = kvm_works()
        words = [str(QEMU), "-m", f"{self.memory_mb}M", "-smp", "2", "-nodefaults"]
        words += ["-display", "none", "-serial", f"file:{self.console}"]
        words += ["-machine", "q35,kernel-irqchip=split" if kvm else "q35", "-device", "intel-iommu"]
        words += ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg", "-cpu", TCG_CPU]
        words += ["-device", "VGA,addr=0x2"]
        words += ["-drive", f"file={self.folder / 'disk.qcow2'},if=virtio,cache=unsafe"]
        words += ["-drive", f"file={self.folder / 'seed.iso'},if=virtio,format=raw,readonly=on"]
        words += ["-netdev", f"user,id=net0,hostfwd=tcp:{self.address}:22-:22"]
        words += ["-device", "virtio-net-pci,netdev=net0"]
        for number, functions in enumerate(_DEVICES, 1):
            place = f"bus=pcie.0,chassis={number},addr={0x0F + number:#x}"
            words += ["-device", f"pcie-root-port,id=port{number},{place}"]
            for function in functions:
                words += ["-device", f"{function},bus=port{number}"]
        words += ["-device", "e1000,bus=conventional,addr=0x1"]
        return words

    def wait(self, after: str = "") -> str:
        """Until it lets us in, in another boot than that of the boot id ``after``; the boot id.

        A boot that the host starved is begun anew, as long as there is time.
        """
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            answer = run([*self.ssh, "cat", "/proc/sys/kernel/random/boot_id"], check=False)
            if answer.code == 0 and answer.stdout != after:
                return answer.stdout
            if STARVED in self.console.read_text(errors="replace"):
                print(f"the host was too busy for its boot, which is begun anew: {STARVED}")
                self.end()
                self.machine = self._power_on()
            time.sleep(1)
        pytest.fail(
            f"no answer on SSH; the end of its console:\n{tail(self.console.read_text(errors='replace'))}"
        )

    def boot(self) -> None:
        """Boot it anew and wait for it."""
        before = self.wait()
        run([*self.ssh, "sudo", "systemctl", "reboot"], check=False)
        self.wait(after=before)

    def ask(self, command: str) -> str:
        """What ``command`` prints there, as root. Raises HpcstateError when it fails."""
        return run([*self.ssh, "sudo", "sh", "-s"], stdin=command, timeout=120).stdout

    def pci(self) -> PciHost:
        """What our facts say of it now."""
        return pcie.read_host(self.ask)

    def drivers(self, *addresses: str) -> list[str]:
        """The driver that each of these devices has now, empty for none."""
        devices = self.pci().devices
        return [devices[address]["driver"] for address in addresses]

    def pyinfra(self, *words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """pyinfra on it, as a user runs it; the last word is the deploy."""
        program = str(Path(sys.executable).with_name("pyinfra"))
        *options, deploy = words
        return run_shown(
            [program, *options, str(self.folder / "inventory.py"), deploy],
            {**os.environ, **environment, "PYINFRA_PROGRESS": "off"},
        )

    def end(self) -> None:
        """Pull its plug."""
        self.machine.kill()
        self.machine.wait()
