"""A hypervisor without a GPU: a q35 guest with an IOMMU; facts, verdicts, binding and refusals are real.

A virtio network card with a second function stands in for a GPU with its audio function, a VGA for the
display.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import image, pcie, pcie_report
from hpcstate.cidata import CloudInit, write_cidata
from hpcstate.host_packages import kvm_works
from hpcstate.packer import TCG_CPU
from hpcstate.pcie import PciHost, State
from hpcstate.run import run, tail
from hpcstate.ssh_keys import known_hosts_line, new_key
from tests.lab.conftest import run_shown

BOOT_SECONDS = 300.0
CARD, SECOND_FUNCTION = "0000:01:00.0", "0000:01:00.1"
ALONE = "0000:02:00.0"


class Hypervisor:
    """The guest, and the ways to it: SSH for questions, pyinfra for changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        user, host = new_key(folder / "user"), new_key(folder / "host")
        (folder / "known_hosts").write_text(known_hosts_line(f"[127.0.0.1]:{self.port}", host))
        write_cidata(CloudInit("hypervisor", "admin", user.public, host), folder / "seed.iso")
        base, disk = image.load("hpc-base").path, folder / "disk.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", disk])
        self.console = folder / "console"
        self.ssh = ["ssh", "-i", str(folder / "user"), "-p", str(self.port), "-o", "BatchMode=yes"]
        self.ssh += ["-o", f"UserKnownHostsFile={folder / 'known_hosts'}", "-o", "ConnectTimeout=5"]
        self.ssh += ["-o", "StrictHostKeyChecking=yes", "admin@127.0.0.1"]
        (folder / "inventory.py").write_text(
            textwrap.dedent(f"""
                hypervisor = [("hypervisor", {{
                    "ssh_hostname": "127.0.0.1", "ssh_port": {self.port}, "ssh_user": "admin",
                    "ssh_key": "{folder / "user"}", "ssh_known_hosts_file": "{folder / "known_hosts"}",
                    "ssh_strict_host_key_checking": "yes",
                }})]
            """)
        )
        self.machine = subprocess.Popen(self._words(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _words(self) -> list[str]:
        kvm = kvm_works()
        words = ["qemu-system-x86_64", "-m", "2G", "-smp", "2", "-nodefaults", "-display", "none"]
        words += ["-machine", "q35,kernel-irqchip=split" if kvm else "q35", "-device", "intel-iommu"]
        words += ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg", "-cpu", TCG_CPU]
        words += ["-device", "VGA,addr=0x2", "-serial", f"file:{self.console}"]
        words += ["-drive", f"file={self.folder / 'disk.qcow2'},if=virtio,cache=unsafe"]
        words += ["-drive", f"file={self.folder / 'seed.iso'},if=virtio,format=raw,readonly=on"]
        words += ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        words += ["-device", "virtio-net-pci,netdev=net0"]
        words += ["-device", "pcie-root-port,id=port1,bus=pcie.0,chassis=1,addr=0x10"]
        words += ["-device", "pcie-root-port,id=port2,bus=pcie.0,chassis=2,addr=0x11"]
        words += ["-device", "virtio-net-pci,bus=port1,addr=0x0.0x0,multifunction=on"]
        words += ["-device", "virtio-rng-pci,bus=port1,addr=0x0.0x1"]
        words += ["-device", "virtio-net-pci,bus=port2"]
        return words

    def wait(self, after: str = "") -> str:
        """Until it lets us in, in another boot than that of the boot id ``after``; the boot id."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            answer = run([*self.ssh, "cat", "/proc/sys/kernel/random/boot_id"], check=False)
            if answer.code == 0 and answer.stdout != after:
                return answer.stdout
            time.sleep(1)
        pytest.fail(
            f"no answer on SSH; the end of its console:\n{tail(self.console.read_text(errors='replace'))}"
        )

    def ask(self, command: str) -> str:
        """What ``command`` prints there, as root."""
        return run([*self.ssh, "sudo", "sh", "-s"], stdin=command, timeout=120).stdout

    def pci(self) -> PciHost:
        """What our facts say of it now."""
        return pcie.read_host(self.ask)

    def deploy(self, *addresses: str, force: bool = False) -> subprocess.CompletedProcess[str]:
        """deploys/vfio.py with a cluster file that asks for these devices."""
        devices = "".join(
            f'\n            - {{pci_address: "{address}", device_type: other}}' for address in addresses
        )
        file = self.folder / "cluster.yaml"
        file.write_text(
            textwrap.dedent("""
                clusters:
                  hpc:
                    name: guests
                    network: {subnet: 192.168.77.0/24, bridge: virbr77}
                    controller: {cpu_cores: 1, memory_gb: 1, ip_address: 192.168.77.10}
                    compute_nodes:
                      - cpu_cores: 1
                        memory_gb: 1
                        ip: 192.168.77.11
                        pcie_passthrough:
                          enabled: true
                          devices:
            """)
            + textwrap.indent(devices.strip("\n"), " " * 14)
            + "\n"
        )
        words = ["-y", *(["--data", "vfio_force=true"] if force else [])]
        return self.pyinfra(*words, "deploys/vfio.py", environment={"HPCSTATE_CLUSTER_FILE": str(file)})

    def pyinfra(self, *words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """pyinfra on it, as a user runs it."""
        program = str(Path(sys.executable).with_name("pyinfra"))
        *options, deploy = words
        return run_shown(
            [program, *options, str(self.folder / "inventory.py"), deploy],
            {**os.environ, **environment, "PYINFRA_PROGRESS": "off"},
        )


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    machine = Hypervisor(tmp_path_factory.mktemp("hypervisor"))
    try:
        machine.wait()
        yield machine
    finally:
        machine.machine.kill()
        machine.machine.wait()


def drivers(found: PciHost, *addresses: str) -> set[str]:
    return {found.devices[address]["driver"] for address in addresses}


def test_verdicts_on_a_real_bus(hypervisor: Hypervisor) -> None:
    found = hypervisor.pci()
    (display,) = [each for each in found.devices.values() if each["boot_vga"]]
    assert pcie.verdict(found, display["address"]).reasons[0].endswith(pcie.BOOT_DISPLAY)
    uses = [use for uses in found.uses.values() for use in uses]
    assert "mounted at /" in uses
    assert any(use.startswith("default route by") for use in uses)
    assert pcie.verdict(found, CARD).state is State.BIND
    assert pcie.companions(found, CARD) == (SECOND_FUNCTION,)
    assert pcie.companions(found, ALONE) == ()
    text = pcie_report.as_text(found, everything=True)
    print(text)
    assert f"{display['address']} blocked:" in text


@pytest.mark.parametrize(("wanted", "reason"), [("half", "must go together with"), ("root", "mounted at /")])
def test_refusals_change_nothing(hypervisor: Hypervisor, wanted: str, reason: str) -> None:
    found = hypervisor.pci()
    root = next(address for address, uses in found.uses.items() if "mounted at /" in uses)
    done = hypervisor.deploy(*([CARD] if wanted == "half" else [root]))
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    after = hypervisor.pci()
    assert drivers(after, CARD, SECOND_FUNCTION, root) == {"virtio-pci"}
    assert after.vfio["configured"] == []


def test_devices_are_given_back_to_the_driver_they_had(hypervisor: Hypervisor) -> None:
    names = {"bind": "vfio-pci", "unbind": "virtio-pci"}
    for name, driver in names.items():
        file = hypervisor.folder / f"{name}.py"
        file.write_text(f"from operations import vfio\nvfio.{name}(addresses=['{ALONE}'], _sudo=True)\n")
        for run_again in (False, True):
            done = hypervisor.pyinfra("-y", str(file), environment={})
            assert done.returncode == 0, done.stderr
            assert ("No changes" in done.stderr + done.stdout) is run_again
            assert drivers(hypervisor.pci(), ALONE) == {driver}


def test_the_deploy_binds_at_once_and_again_does_nothing(hypervisor: Hypervisor) -> None:
    first = hypervisor.deploy(CARD, SECOND_FUNCTION)
    assert first.returncode == 0, first.stderr
    found = hypervisor.pci()
    assert drivers(found, CARD, SECOND_FUNCTION) == {"vfio-pci"}
    assert drivers(found, ALONE) == {"virtio-pci"}
    assert pcie.verdict(found, CARD).state is State.READY
    again = hypervisor.deploy(CARD, SECOND_FUNCTION)
    assert (again.returncode, "Success" in (again.stdout + again.stderr).split("Results")[0]) == (0, False)


def test_after_a_boot_vfio_still_has_them(hypervisor: Hypervisor) -> None:
    before = hypervisor.wait()
    run([*hypervisor.ssh, "sudo", "systemctl", "reboot"], check=False)
    hypervisor.wait(after=before)
    found = hypervisor.pci()
    assert drivers(found, CARD, SECOND_FUNCTION) == {"vfio-pci"}
    assert drivers(found, ALONE) == {"virtio-pci"}
    assert found.vfio["configured"] == [CARD, SECOND_FUNCTION]
    assert found.iommu["requested"]
