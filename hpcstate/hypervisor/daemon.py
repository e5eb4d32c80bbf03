"""A libvirtd where the machine runs none: started by us, told so, and ended by ``destroy``."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import write_atomically
from hpcstate.host import tools
from hpcstate.host.packages import kvm_works
from hpcstate.model import Cluster, Node
from hpcstate.paths import ClusterPaths
from hpcstate.run import run

SYSTEM_URI = "qemu:///system"
SOCKET = Path("/run/libvirt/libvirt-sock")
DEFINED = Path("/etc/libvirt/qemu")
KVM = Path("/dev/kvm")
_NO_KVM = "hpcstate-no-kvm"

RECORD = SOCKET.with_name("hpcstate-started.json")
"""The daemons we started, name to process id: beside their socket, gone with the next boot as they are."""

_DAEMONS = ("virtlogd", "libvirtd")
_WAIT = 20.0


def ensure_daemon(uri: str, say: Callable[[str], None]) -> None:
    """Make sure that something answers at ``uri``; only the local system daemon can be started from here.

    Where systemd runs it starts the service, else the daemons themselves (root only). Raises HpcstateError
    when it still does not answer after 20 s.
    """
    if uri != SYSTEM_URI or answers():
        return
    if Path("/run/systemd/system").is_dir():
        say("libvirtd does not run; starting its service")
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        run([*prefix, "systemctl", "start", "libvirtd"], hint="see: journalctl -u libvirtd")
    elif os.geteuid() == 0:
        say("no libvirtd here, and no systemd: starting virtlogd and libvirtd (destroy ends them)")
        _start()
    else:
        raise HpcstateError("no libvirtd runs on this machine, and only root can start one", where=uri)
    _wait()


def end_daemon(say: Callable[[str], None], domains: Sequence[str] = ()) -> None:
    """End the daemons that ``ensure_daemon`` started itself, and no others.

    They go on while somebody has domains in them, on or off: ``domains`` are their names.
    """
    recorded = _recorded()
    if not recorded:
        return
    if domains:
        say(f"libvirtd goes on: it still has {', '.join(domains)}")
        return
    for name, pid in recorded.items():
        if _is_running(name, pid):
            say(f"ending {name} (process {pid}), which hpcstate had started")
            os.kill(pid, signal.SIGTERM)
            _wait_for_end(name, pid)
    RECORD.unlink(missing_ok=True)
    SOCKET.with_name(_NO_KVM).unlink(missing_ok=True)


def _start() -> None:
    # One of the two may have been ended alone.
    started = {name: pid for name, pid in _recorded().items() if _is_running(name, pid)}
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    for name in _DAEMONS:
        if name in started:
            continue
        # Beside the socket, not in /run: in a lab on a machine with a libvirtd of its own they would collide.
        pid_file = SOCKET.with_name(f"hpcstate-{name}.pid")
        pid_file.unlink(missing_ok=True)
        run([*_without_broken_kvm(), tools.program(name), "--daemon", "--pid-file", pid_file])
        deadline = time.monotonic() + _WAIT
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        started[name] = int(pid_file.read_text())
        write_atomically(RECORD, json.dumps(started) + "\n")


def _without_broken_kvm() -> list[str]:
    """Words that hide a /dev/kvm which opens but runs no guest from a daemon.

    QEMU reports KVM there and libvirt, which looks at the processor, does not: libvirt then throws its cached
    capabilities away and probes every QEMU again whenever a domain is defined, 17 s each time. It does so
    too when QEMU found no KVM and QEMU's user may open /dev/kvm (qemu_capabilities.c, virQEMUCapsIsValid):
    what stands in its place is therefore a file that only root may open, not /dev/null.
    """
    if kvm_works() or not KVM.exists():
        return []
    # A device file like the hidden one: libvirt takes this mount along into the /dev that it makes for a
    # domain.
    closed = SOCKET.with_name(_NO_KVM)
    try:
        closed.unlink(missing_ok=True)
        os.mknod(closed, stat.S_IFCHR | 0o600, Path(os.devnull).stat().st_rdev)
    except OSError:
        closed = Path(os.devnull)
    hide = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", hide, "sh", str(closed), str(KVM)]


def _wait() -> None:
    deadline = time.monotonic() + _WAIT
    while not answers():
        if time.monotonic() > deadline:
            raise HpcstateError(
                f"libvirtd did not answer within {_WAIT:.0f} s",
                where=str(SOCKET),
                hint="run `libvirtd --verbose` to see why",
            )
        time.sleep(0.1)


def reload_daemon() -> None:
    """Have libvirtd put its networks' firewall rules in place anew: it does so on SIGHUP (libvirt,
    src/network/bridge_driver.c, networkStateReload). Nothing where that is not allowed.
    """
    if Path("/run/systemd/system").is_dir():
        units = ("libvirtd.service", "virtnetworkd.service")
        run(["systemctl", "try-reload-or-restart", *units], check=False)
        return
    pid = _recorded().get("libvirtd", 0)
    if pid and _is_running("libvirtd", pid):
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError:
            return


def answers() -> bool:
    """Whether a libvirtd listens on this machine."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(SOCKET))
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def has_nothing_of(cluster: Cluster) -> bool:
    """Whether no libvirtd runs on this machine, where ``cluster`` belongs, and the last one left none of its
    machines behind: as long as it is away, these are told by its own files (``/etc/libvirt/qemu/NAME.xml`` of
    one that is defined, ``/run/libvirt/qemu/NAME.pid`` of one that runs). Where this user may not look, one
    may be there.
    """
    if cluster.uri != SYSTEM_URI or answers():
        return False
    names = [cluster.domain_name(node) for node in cluster.nodes]
    files = [DEFINED / f"{name}.xml" for name in names]
    files += [SOCKET.with_name("qemu") / f"{name}.pid" for name in names]
    try:
        return not any(map(_is_there, files))
    except PermissionError:
        return not ClusterPaths.of(cluster.name).ssh_key.exists()


def emulators_run(cluster: Cluster, nodes: Sequence[Node]) -> bool:
    """Whether all of ``nodes`` seem to run on this machine, by the files of libvirt, which removes them as a
    machine ends. False where this user may not look."""
    if cluster.uri != SYSTEM_URI or not answers():
        return False
    try:
        names = [cluster.domain_name(node) for node in nodes]
        return all(_is_there(SOCKET.with_name("qemu") / f"{name}.pid") for name in names)
    except PermissionError:
        return False


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _recorded() -> dict[str, int]:
    try:
        return dict(json.loads(RECORD.read_text()))
    except (OSError, ValueError):
        return {}


def _is_running(name: str, pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def _wait_for_end(name: str, pid: int) -> None:
    deadline = time.monotonic() + _WAIT
    while _is_running(name, pid) and time.monotonic() < deadline:
        time.sleep(0.05)
