"""A job opens the devices that every program needs, and none that is not for its user.

Its GPUs are looked at in the suite gpu-gres: own_device, without_gres, different.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.ssh import Live
from tests.suites.breaking import last_worker, mode
from tests.suites.job_view import JobView

_BY = {"EACCES": "owner and mode", "EPERM": "the kernel"}


def test_open_devices(without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job opens /dev/null, /dev/zero and /dev/urandom, /dev/fuse for containers, terminals, and /dev/shm"""
    bad = {
        view.host: {path: said for path, said in view.open.items() if said != "OK"} for view in without_gpu
    }
    if any(bad.values()):
        raise CheckFailed(
            "every one opens",
            "; ".join(f"{host}: {_answers(said)}" for host, said in bad.items() if said),
            "EACCES: the mode of the file (systemd-tmpfiles sets it at boot); EPERM: the device filter",
        )
    record_property("observed", "; ".join(f"{view.host}: {', '.join(view.open)}" for view in without_gpu))


def test_closed_devices(without_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job of an ordinary user opens no block device and not the machine's memory"""
    bad = [f"{view.host}: {_opened(view)}" for view in without_gpu if _opened(view) or not view.closed]
    if bad:
        raise CheckFailed(
            "every block device and /dev/mem refused",
            "; ".join(bad),
            "root:disk 660 and root:kmem 640 are theirs; the device filter knows only what gres.conf lists",
        )
    record_property("observed", "; ".join(f"{view.host}: {_refusals(view)}" for view in without_gpu))


def _opened(view: JobView) -> str:
    return ", ".join(f"{path} {said}" for path, said in view.closed.items() if said not in _BY)


def _refusals(view: JobView) -> str:
    return ", ".join(f"{path} refused by {_BY[said]} ({said})" for path, said in view.closed.items())


def _answers(said: dict[str, str]) -> str:
    return ", ".join(f"{path} {answer}" for path, answer in said.items())


@fault("/dev/fuse of a node is for root only", "cgroup-isolation.open_devices")
def fuse_closed(live: Live) -> Iterator[None]:
    with mode(live, last_worker(live).name, "/dev/fuse", "600"):
        yield


@fault("everybody may read the disk of a node", "cgroup-isolation.closed_devices")
def disk_readable(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    disk = live.run(name, "lsblk --noheadings --nodeps --paths --output NAME | head -n 1").stdout.strip()
    with mode(live, name, disk, "666"):
        yield
