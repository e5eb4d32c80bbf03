"""operations.nvidia: nothing without a GPU; install, load, update, reboot, every refusal, a second run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.connectors.util import CommandOutput, OutputLine

from hpcstate.gpu import driver as nvidia_driver
from hpcstate.probe.nvidia_driver import NvidiaDriver
from hpcstate.probe.text_files import TextFileState
from operations import nvidia
from operations.nvidia import Asked
from tests.operations.harness import FakeHost, FakeState, Outcome, run
from tests.unit.nvidia_states import BARE, BUILT, KERNEL, MAIN, RUNNING, SET, VERSION, state
from tests.unit.pci_hosts import AUDIO, BRIDGE, GPU, device

NODE = "compute-01"
FILES = nvidia_driver.files(MAIN, 1)


def written(content: dict[str, str]) -> dict[str, TextFileState]:
    """The files as the node has them after they were written."""
    digests = {
        path: subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
        for path, text in content.items()
    }
    return {
        path: TextFileState(mode="644", owner="root:root", sha256=done.stdout.decode()[:64], pending=False)
        for path, done in digests.items()
    }


def facts(*states: NvidiaDriver, files: Any = None, gpu: Any = GPU, **more: Any) -> dict[str, Any]:
    """A node with ``gpu`` whose driver has these states one after the other."""
    return {
        "facts.pci.PciDevices": {d["address"]: d for d in (BRIDGE, gpu, AUDIO)},
        "facts.nvidia.NvidiaDriver": {"sequence": list(states)},
        "facts.apt.AptSourceEntries": MAIN,
        "facts.text_files.TextFiles": {"*": written(FILES) if files is None else files},
        "facts.slurm.SlurmNodes": {NODE: {"states": ["IDLE"], "reason": "", "reason_user": ""}},
        **more,
    }


def driver(found: dict[str, Any], **asked: Any) -> Outcome:
    return run(nvidia.driver, node=NODE, asked=Asked(**asked), timeout_s=60, facts=found)


def shown(outcome: Outcome) -> list[str]:
    """Each command's first words, or the name of its function."""
    return [
        str(command["function"] if isinstance(command, dict) and "function" in command else command)
        for command in outcome.commands
    ]


def stopped(outcome: Outcome) -> str:
    """The message with which the last command stops the host."""
    last = outcome.commands[-1]
    assert isinstance(last, dict)
    assert last["function"] == "fail"
    return str(last["args"][0])


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param((), id="no PCI"),
        pytest.param((BRIDGE, AUDIO), id="only the audio function"),
        pytest.param((device("0000:01:00.0", "1002:73bf", "030000"),), id="another vendor"),
    ],
)
def test_elsewhere_nothing_is_done_and_only_the_bus_is_looked_at(devices: Any) -> None:
    outcome = driver({"facts.pci.PciDevices": {d["address"]: d for d in devices}}, reboot=True, update=True)
    assert outcome.commands == []
    assert outcome.noops == [f"{NODE} has no NVIDIA GPU on its bus"]


def test_a_bare_node_gets_the_whole_driver_and_is_not_drained() -> None:
    outcome = driver(facts(BARE, BUILT, files={}))
    commands = shown(outcome)
    paths = [path for path in FILES if any(f"\\nreplace_file {path} " in command for command in commands)]
    assert paths == list(FILES)
    rest = [command for command in commands if "replace_file" not in command]
    assert "systemctl daemon-reload" in rest[0]
    assert rest[1].endswith("-o APT::Update::Error-Mode=any update")
    assert f"\nset -- {' '.join(SET)}\n" in rest[2]
    assert " install --no-install-recommends --allow-change-held-packages " in rest[2]
    assert rest[3] == f"apt-mark hold {' '.join(SET)}"
    assert rest[4] == nvidia._load_script()
    assert rest[5] == "systemctl start nvidia-persistenced.service hpcstate-nvidia-devices.service"
    assert len(rest) == 6


def test_a_node_that_runs_it_is_left_alone() -> None:
    outcome = driver(facts(RUNNING))
    assert outcome.commands == []
    assert outcome.noops[-1] == f"{NODE} runs NVIDIA's driver {VERSION} (proprietary modules)"


def test_what_was_interrupted_is_finished() -> None:
    loose = state(
        BUILT,
        packages={name: {**package, "held": False} for name, package in BUILT["packages"].items()},
        units={},
    )
    commands = shown(driver(facts(loose)))
    assert commands[0] == f"apt-mark hold {' '.join(SET)}"
    assert commands[1].startswith("systemctl enable --quiet nvidia-persistenced.service")
    assert commands[2] == nvidia._load_script()
    assert commands[3].startswith("systemctl start ")
    assert len(commands) == 4


def test_nouveau_goes_out_of_the_initramfs_where_the_kernel_has_it() -> None:
    commands = shown(driver(facts(state(RUNNING, nouveau_built=True), files={})))
    assert sum("update-initramfs -u" in command for command in commands) == 1
    commands = shown(driver(facts(RUNNING, files={})))
    assert not any("update-initramfs" in command for command in commands)


def test_packages_change_under_a_loaded_driver_only_after_the_drain() -> None:
    without = state(RUNNING, packages={k: v for k, v in RUNNING["packages"].items() if k != "nvidia-smi"})
    commands = shown(driver(facts(without, RUNNING)))
    order = ["apt-get", "state=drain", "wait_until_free", "install", "apt-mark hold", "rmmod"]
    assert [next(i for i, c in enumerate(commands) if word in c) for word in order] == [0, 1, 2, 3, 4, 5]
    assert "reason='hpcstate: NVIDIA" in commands[1]
    assert len(commands) == 6


def test_the_other_modules_are_taken_out() -> None:
    commands = shown(driver(facts(BUILT, state(BUILT, built={KERNEL: {"open": VERSION}})), modules="open"))
    (install,) = [command for command in commands if " install " in command]
    assert " nvidia-open-kernel-dkms " in install
    assert " nvidia-kernel-dkms- nvidia-kernel-support-\n" in install or " nvidia-kernel-dkms-\n" in install


def test_mps_is_a_package_of_the_set() -> None:
    commands = shown(driver(facts(BUILT, BUILT)))
    assert not any("apt" in command for command in commands)
    (hold,) = [c for c in shown(driver(facts(BUILT, BUILT), mps=True)) if c.startswith("apt-mark")]
    assert hold.endswith(" nvidia-cuda-mps")


@pytest.mark.parametrize(("candidate", "installs"), [("550.163.01-2", 0), ("550.163.01-3", 1), ("", 0)])
def test_an_update_is_made_only_when_there_is_one(candidate: str, installs: int) -> None:
    versions = {"libcuda1": {"installed": "550.163.01-2", "candidate": candidate}}
    found = facts(RUNNING, RUNNING, **{"facts.apt.AptPackageVersions": {"*": versions}})
    commands = shown(driver(found, update=True))
    assert commands[0].endswith("update")
    assert sum(" install " in command for command in commands) == installs
    assert sum("state=drain" in command for command in commands) == installs
    assert "reboot_and_wait" not in commands


OLD_KERNEL = state(BUILT, kernel="6.12.100+deb13-cloud-amd64")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(state(BUILT, nouveau_loaded=True), "nouveau is loaded", id="nouveau"),
        pytest.param(OLD_KERNEL, f"the driver is built for {KERNEL}", id="newer kernel"),
        pytest.param(
            state(RUNNING, library="550.170.00"),
            f"the loaded module is {VERSION}, the libraries are 550.170.00",
            id="older module",
        ),
    ],
)
def test_a_reboot_is_asked_for_and_not_made(found: NvidiaDriver, why: str) -> None:
    outcome = driver(facts(found))
    assert len(outcome.commands) == 1
    assert why in stopped(outcome)
    assert "--data nvidia_reboot=true" in stopped(outcome)


def test_the_reboot_that_is_asked_for_comes_after_the_drain() -> None:
    outcome = driver(facts(OLD_KERNEL, RUNNING), reboot=True)
    commands = shown(outcome)
    assert "state=drain" in commands[0]
    assert "reboot: the driver is built for" in commands[0]
    assert commands[1:] == ["wait_until_free", "reboot_and_wait"]


def test_a_node_without_need_is_not_rebooted() -> None:
    assert driver(facts(RUNNING), reboot=True).commands == []


def test_a_reboot_that_did_not_help_is_told() -> None:
    outcome = driver(facts(OLD_KERNEL), reboot=True)
    assert "was rebooted, and still" in stopped(outcome)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(facts(state(BARE, secure_boot=True)), "Secure Boot is on", id="secure boot"),
        pytest.param(facts(BARE, gpu={**GPU, "device": "1180"}), "nvidia-tesla-470", id="Kepler"),
        pytest.param(facts(BARE, gpu={**GPU, "device": "2b85"}), "Blackwell", id="Blackwell"),
        pytest.param(facts(state(BARE, kernel="6.18.7")), "none of Debian's", id="kernel"),
        pytest.param(
            facts(BARE, **{"facts.apt.AptSourceEntries": {"codename": "bookworm", "sources": []}}),
            "not for bookworm",
            id="release",
        ),
    ],
)
def test_refusals_change_nothing(found: dict[str, Any], message: str) -> None:
    outcome = driver(found)
    assert len(outcome.commands) == 1
    assert message in stopped(outcome)


def test_modules_that_were_not_built_are_told() -> None:
    outcome = driver(facts(state(BUILT, built={}, headers=[])))
    assert "DKMS has built no proprietary NVIDIA modules (headers are installed of: no kernel)" in stopped(
        outcome
    )


class Node(FakeHost):
    """A host that has a boot id, and another one ``boots`` looks after its reboot."""

    def __init__(self, jobs: list[int], boots: int) -> None:
        super().__init__({"facts.slurm.SlurmJobs": {f"node={NODE}": jobs}})
        self.boots = boots
        self.connected = True
        self.rebooted = False

    def disconnect(self) -> None:
        self.connected = False

    def connect(self, **_: Any) -> None:
        self.boots -= 1
        self.connected = True

    def run_shell_command(self, command: Any, **_: Any) -> Any:
        self.ran.append(str(command))
        self.rebooted = self.rebooted or "systemctl reboot" in str(command)
        boot = "second" if self.rebooted and self.boots <= 0 else "first"
        return True, CommandOutput([OutputLine("stdout", boot)])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gevent.sleep", lambda _: None)


@pytest.mark.parametrize(("boots", "back"), [(1, True), (5, True), (1000, False)])
def test_a_reboot_is_over_with_another_boot_id(boots: int, back: bool) -> None:
    node = Node([], boots)
    assert nvidia.reboot_and_wait(FakeState(), node, NODE, 60) is back
    assert sum("systemctl reboot" in command for command in node.ran) == 1
    assert bool(node.said) is not back


def test_jobs_keep_a_node_from_its_reboot() -> None:
    node = Node([7], 1)
    assert nvidia.reboot_and_wait(FakeState(), node, NODE, 60) is False
    assert node.ran == []
    assert "jobs 7 hold compute-01" in node.said[0]


def sh(script: str, tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """``script`` with stand-ins for programs."""
    for name, body in programs.items():
        path = tmp_path / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("known", "words"), [(0, "libcuda1 linux-headers-6.1-amd64"), (1, "libcuda1")])
def test_headers_of_the_running_kernel_come_along_while_there_are_any(
    known: int, words: str, tmp_path: Path
) -> None:
    script = nvidia._install_script(["libcuda1"]).replace("/var/lib/dpkg/updates", str(tmp_path / "none"))
    done = sh(script, tmp_path, uname="echo 6.1-amd64", apt_cache=f"exit {known}", apt_get='echo "$@"')
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith(f"--allow-change-held-packages {words}")


def test_an_interrupted_dpkg_is_finished_first(tmp_path: Path) -> None:
    updates = tmp_path / "updates"
    updates.mkdir()
    (updates / "0001").touch()
    script = nvidia._install_script(["libcuda1"]).replace("/var/lib/dpkg/updates", str(updates))
    done = sh(script, tmp_path, apt_cache="exit 1", apt_get="echo apt-get", dpkg='echo dpkg "$@"')
    assert done.stdout == "dpkg --configure -a\napt-get\n"


def test_a_build_that_fails_shows_the_compilers_errors(tmp_path: Path) -> None:
    log = tmp_path / "nvidia-current" / "550" / "build" / "make.log"
    log.parent.mkdir(parents=True)
    log.write_text("nv-pci.c:237:9: error: too few arguments to function ‘pci_resize_resource’\nmake: ***\n")
    script = nvidia._install_script(["libcuda1"]).replace("/var/lib/dkms", str(tmp_path))
    done = sh(script, tmp_path, apt_cache="exit 1", apt_get="exit 100")
    assert done.returncode == 1
    assert done.stderr == "nv-pci.c:237:9: error: too few arguments to function ‘pci_resize_resource’\n"


def test_a_driver_that_does_not_load_shows_what_the_kernel_said(tmp_path: Path) -> None:
    done = sh(
        nvidia._load_script(), tmp_path, modprobe="exit 1", dmesg="echo NVRM: no supported GPU; echo else"
    )
    assert done.returncode == 1
    assert done.stderr.endswith("The kernel says:\nNVRM: no supported GPU\n")
    assert sh(nvidia._load_script(), tmp_path, modprobe="exit 0").returncode == 0


def test_old_modules_are_taken_out_in_order(tmp_path: Path) -> None:
    modules = tmp_path / "module"
    for name in ("nvidia", "nvidia_uvm", "nvidia_modeset"):
        (modules / name).mkdir(parents=True)
    script = nvidia._unload_script().replace("/sys/module", str(modules))
    done = sh(script, tmp_path, systemctl="exit 0", rmmod="echo $1")
    assert done.stdout.split() == ["nvidia_uvm", "nvidia_modeset", "nvidia"]
    done = sh(script, tmp_path, rmmod="echo $1; exit 1")
    assert (done.returncode, done.stdout.split()) == (0, ["nvidia_uvm"])
