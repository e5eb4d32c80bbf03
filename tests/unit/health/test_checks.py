"""What the checks of a node make of what it shows: sound, failed, and the texts that are no answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hpcstate.health import checks, gpus
from hpcstate.health.checks import Room, Wrong, clock_off, full, less_memory, link, mount_of, mountinfo
from hpcstate.model.health import CHECKS

# A trixie node with shared homes, a volume that the kernel has made read-only, and a name with a blank.
MOUNTINFO = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 22 0:26 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,inode64
31 22 0:44 / /home rw,relatime shared:100 - autofs systemd-1 rw,fd=58,pgrp=1,timeout=0,minproto=5,direct
32 31 0:45 / /home rw,nosuid shared:101 - nfs4 192.168.150.10:/home rw,vers=4.2,hard
33 22 254:17 / /var/lib/slurm rw,relatime shared:9 - ext4 /dev/vdb1 ro
34 22 0:46 / /mnt/a\040b rw - virtiofs tag rw
35 22 0:47 / /ro ro,relatime - squashfs /dev/loop0 ro
"""


def words(found: Iterable[Wrong]) -> list[str]:
    return [each.detail for each in found]


def test_the_declared_list_and_the_checks_agree() -> None:
    assert {check.name for check in CHECKS} == set(checks.CHECKS)
    assert all(check.timeout_s <= 45 and check.title for check in CHECKS)


def test_mounts_are_read() -> None:
    found = mountinfo(MOUNTINFO)
    assert [each.point for each in found] == [
        "/",
        "/dev/shm",
        "/home",
        "/home",
        "/var/lib/slurm",
        "/mnt/a b",
        "/ro",
    ]
    # The later one lies over the earlier one.
    assert [
        mount.kind
        for path in ("/home/alice", "/", "/var/lib/slurmx", "/mnt/a b/c")
        if (mount := mount_of(path, found))
    ] == [
        "nfs4",
        "ext4",
        "ext4",
        "virtiofs",
    ]
    with pytest.raises(ValueError, match="no line of mountinfo"):
        mountinfo("22 1 254:1 / /")
    assert mountinfo(Path("/proc/self/mountinfo").read_text())


@pytest.mark.parametrize(
    ("path", "room", "said", "blame"),
    [
        ("/", Room(50, 3), [], ""),
        ("/", Room(98, 3), ["/ is 98 % full"], "node"),
        ("/", Room(98, 99), ["/ is 98 % full", "/ has 99 % of its inodes taken"], "node"),
        ("/", Room(3, None), [], ""),
        ("/dev/shm", Room(100, 1), ["/dev/shm is 100 % full"], "user"),
        (
            "/var/lib/slurm",
            Room(1, 1),
            ["/var/lib/slurm (/var/lib/slurm) is read-only: the kernel's log says why"],
            "node",
        ),
    ],
)
def test_file_systems(path: str, room: Room, said: list[str], blame: str) -> None:
    mounted = mount_of(path, mountinfo(MOUNTINFO))
    assert mounted is not None
    found = list(full(path, mounted, room, 97, 97))
    assert words(found) == said and {each.blame for each in found} == ({blame} if said else set())


def test_real_file_systems_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def room(path: str) -> Room:
        looked.append(path)
        return Room(0, 0)

    monkeypatch.setattr(checks, "_room", room)
    assert not words(checks.filesystems({"full_percent": 97, "inodes_percent": 97})) and "/" in looked


def test_servers_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    text = MOUNTINFO.replace(" /home ", " /var/tmp ")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    looked: list[str] = []

    def room(path: str) -> Room:
        looked.append(path)
        return Room(0, 0)

    monkeypatch.setattr(checks, "_room", room)
    list(checks.filesystems({"full_percent": 97, "inodes_percent": 97}))
    assert "/var/tmp" not in looked and "/dev/shm" in looked


def test_what_is_not_mounted() -> None:
    found = checks.not_mounted(["/home", "/scratch"], mountinfo(MOUNTINFO))
    assert words(found) == ["/scratch is not mounted"]


def test_memory() -> None:
    text = "MemTotal:        2007040 kB\nMemFree:  1 kB\n"
    assert words(less_memory(text, 1960)) == []
    assert words(less_memory(text, 1961)) == ["1960 MiB of memory, and slurm.conf says RealMemory=1961"]
    with pytest.raises(ValueError, match="no MemTotal"):
        list(less_memory("nothing", 1))


def test_daemons() -> None:
    shown = "Id=munge.service\nActiveState=active\n\nId=chrony.service\nActiveState=failed\n"
    assert words(checks.not_running(shown, ["munge.service", "chrony.service"])) == [
        "chrony.service is failed"
    ]
    with pytest.raises(ValueError, match="nothing of ssh"):
        list(checks.not_running(shown, ["ssh.service"]))


@pytest.mark.parametrize(("off", "said"), [("0.000012", []), ("-12.5", ["the clock is off by -12.5 s"])])
def test_clock(off: str, said: list[str]) -> None:
    tracking = f"C0A89606,192.168.150.10,11,1764311433.9,{off},0.0,0.0,0.1,0.0,1.5,0.0,0.0,64.8,Normal\n"
    assert words(clock_off(tracking, 10)) == said


@pytest.mark.parametrize("text", ["", "506 Cannot talk to daemon\n", "a,b\n"])
def test_a_chronyd_that_is_silent_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="no answer of chronyc"):
        list(clock_off(text, 10))


def test_links() -> None:
    assert not words(link("eth0", "up", "1")) and not words(link("eth0", "unknown", ""))
    assert words(link("eth0", "down", "")) == ["the link of eth0 is down"]
    assert "without carrier" in words(link("eth0", "up", "0"))[0]


def test_a_controller_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_ask", lambda *_: "1: lo    inet 127.0.0.1/8 scope host lo\n")
    said = words(checks.network({"controller": ["127.0.0.1", 1], "address": "127.0.0.1"}))
    assert said == ["slurmctld at 127.0.0.1:1 is not reached: Connection refused"]


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not Path("/dev/fuse").is_char_device():
        pytest.skip("this machine has no /dev/fuse")
    yield


def test_container_programs(fuse: None) -> None:
    said = words(checks.container_runtime({"container_programs": ["sh", "no-such-program"]}))
    assert "no-such-program is not there" in said and not any(line.startswith("sh ") for line in said)


def test_a_node_without_gpus_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "on_the_bus", lambda: 0)
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(checks, "_shell", lambda _: pytest.fail("it asked"))
    assert words(checks.gpu_findings({"node": "a", "gpus": 0})) == []
    assert words(checks.gpu_findings({"node": "a", "gpus": 2})) == [
        "0 NVIDIA GPUs on the bus, and the cluster file has 2"
    ]
