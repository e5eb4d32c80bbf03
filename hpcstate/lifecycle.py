"""start, stop, status, destroy: a cluster's virtual machines from absent to answering on SSH, and back."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.libvirt_daemon import SYSTEM_URI, answers, ensure_daemon
from hpcstate.libvirt_host import LibvirtHost, connect
from hpcstate.live import Live, UnreachableError
from hpcstate.model import Cluster, Node
from hpcstate.paths import ClusterPaths
from hpcstate.run import tail
from hpcstate.secrets import ensure_secrets

Say = Callable[[str], None]

BOOT_TIMEOUT = 600.0
"""Seconds for all nodes to answer on SSH; a TCG guest alone needs under one minute, eight share two cores."""

_OFF = ("absent", "stopped", "crashed")
"""States in which nothing of a node is in memory; a paused one still is."""

STOP_TIMEOUT = 120.0
_POLL = 1.0
_PROGRESS = 10.0

_STARVED = re.compile(r"rcu: rcu_\w+ kthread starved for")
"""What Linux prints while a thread of its RCU gets no timer: after 21 s, then every 63 s
(Documentation/RCU/stallwarn.rst)."""


@dataclass(frozen=True)
class Started:
    """What ``start`` did: the nodes it powered on, and those that ran already."""

    powered_on: tuple[str, ...]
    running: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was powered on."""
        return bool(self.powered_on)


def start(cluster: Cluster, say: Say, only: Sequence[str] = ()) -> Started:
    """Bring the nodes (those of ``only``, else all with auto_start) up until they answer on SSH.

    Takes up whatever is half there. Raises HpcstateError naming the nodes that did not answer, with the
    end of their serial consoles.
    """
    nodes = select(cluster, only)
    ensure_secrets(cluster)
    ensure_daemon(cluster.uri, say)
    with connect(cluster.uri) as host:
        facts = host.facts().for_cluster(cluster)
        host.check(facts)
        powered_on = [node.name for node in nodes if host.state(cluster, node) != "running"]
        _renew_cidata(cluster, nodes, host, say)
        if powered_on:
            why = "no working KVM here" if cluster.acceleration.enable_kvm else "enable_kvm is false"
            how = "KVM" if facts.kvm else f"software emulation (TCG: {why})"
            say(f"powering on {', '.join(powered_on)} under {how}")
        _refuse_held(cluster, [node for node in nodes if node.name in powered_on], host)
        host.ensure_network(cluster)
        if powered_on:
            pool = host.volumes.ensure_pool(cluster)
            for node in nodes:
                host.volumes.ensure(cluster, node, pool)
                host.ensure_domain(cluster, node, facts)
        wait_for_ssh(cluster, nodes, host, say, booting=powered_on)
    return Started(tuple(powered_on), tuple(node.name for node in nodes if node.name not in powered_on))


def _renew_cidata(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, say: Say) -> None:
    """Nodes made with other keys than those below build/ (it was removed) get the new ones as they boot.

    Raises HpcstateError when such a node runs: it would never let us in, and is not ours to restart unasked.
    """
    strange = [node for node in nodes if host.volumes.has_other_keys(cluster, node)]
    running = [node.name for node in strange if host.state(cluster, node) not in _OFF]
    if running:
        raise HpcstateError(
            f"{', '.join(running)} run with other keys than those in {ClusterPaths.of(cluster.name).secrets}",
            where=cluster.name,
            hint="put that folder back; or `hpcstate stop` and `start`: new keys are taken, disks stay",
        )
    for node in strange:
        say(f"{node.name} was made with other keys: it gets the new ones as it boots")
        host.volumes.remove_cidata(cluster, node)


def select(cluster: Cluster, only: Sequence[str]) -> tuple[Node, ...]:
    """The nodes called ``only``, or all that start by themselves; HpcstateError for an unknown name."""
    known = {node.name: node for node in cluster.nodes}
    for name in only:
        if name not in known:
            raise HpcstateError(
                f"no node is called {name!r}", where=cluster.name, hint=f"nodes: {', '.join(known)}"
            )
    if only:
        return tuple(known[name] for name in dict.fromkeys(only))
    return tuple(node for node in cluster.nodes if node.auto_start)


def wait_for_ssh(
    cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, say: Say, booting: Sequence[str] = ()
) -> None:
    """Wait until every node lets our key in; a progress line every ten seconds.

    A node whose emulator crashed is powered on once more: QEMU 10 under TCG can stop at an assertion while
    the guest maps its devices (``iotlb_to_section``): seen once, on a busy host, in some 200 boots. One of
    ``booting`` (powered on just now: no job can run there) whose kernel has stalled is reset once: a guest
    under TCG can lose a timer interrupt as it boots, and then waits for it for ever: twice in some 600 boots.
    """
    begun = shown = time.monotonic()
    again: set[str] = set()
    waiting = {node.name: node for node in nodes}
    with Live(cluster) as live:
        while waiting:
            for node in list(waiting.values()):
                if _banner(str(node.address)) and _lets_in(live, node):
                    del waiting[node.name]
            now = time.monotonic()
            if waiting and now - begun > BOOT_TIMEOUT:
                raise _no_answer(cluster, list(waiting.values()), host)
            if waiting and now - shown > _PROGRESS:
                shown = now
                say(f"waiting for SSH: {', '.join(waiting)} ({now - begun:.0f} s)")
                _reset_stalled(
                    cluster, [waiting[name] for name in booting if name in waiting], host, again, say
                )
            if waiting:
                time.sleep(_POLL)
                _revive(cluster, list(waiting.values()), host, again, say)


def _banner(address: str) -> bool:
    """Whether an SSH server greets at ``address``: far cheaper for a slow guest than a whole handshake."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _lets_in(live: Live, node: Node) -> bool:
    try:
        live.run(node.name, "true", timeout=30)
    except UnreachableError:
        return False
    return True


def _revive(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, again: set[str], say: Say) -> None:
    """Powers nodes on whose emulator crashed, once: then they are in ``again``. Raises HpcstateError for
    others that are off.
    """
    dead = [node for node in nodes if host.state(cluster, node) not in ("running", "unknown")]
    if gone := [node for node in dead if node.name in again or not host.has_crashed(cluster, node)]:
        raise _no_answer(cluster, gone, host)
    for node in dead:
        again.add(node.name)
        say(f"the emulator of {node.name} crashed (libvirt's log tells why): powering it on again")
        host.power_on(cluster, node)


def _reset_stalled(
    cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, again: set[str], say: Say
) -> None:
    """Resets nodes whose kernel said twice that it stalls, once: then they are in ``again``.

    Once could be a host that was busy for a while; between the first and the second time lies a minute.
    """
    for node in nodes:
        if node.name not in again and len(_STARVED.findall(host.volumes.console(cluster, node))) >= 2:
            again.add(node.name)
            say(
                f"the kernel of {node.name} stalled as it booted (its serial console tells how): resetting it"
            )
            host.reset(cluster, node)


def _no_answer(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost) -> HpcstateError:
    parts = []
    for node in nodes:
        end = tail(host.volumes.console(cluster, node), 15) or "    (the console is empty)"
        parts.append(f"{node.name} is {host.state(cluster, node)}; the end of its serial console:\n{end}")
    return HpcstateError(
        "no answer on SSH\n" + "\n".join(parts),
        where=cluster.name,
        hint="`hpcstate start` takes up from here; `hpcstate destroy` and start again gives fresh nodes",
    )


def stop(cluster: Cluster, say: Say, only: Sequence[str] = ()) -> list[str]:
    """Shut nodes down in order: workers first. One that does not within two minutes is powered off."""
    ensure_daemon(cluster.uri, say)
    with connect(cluster.uri) as host:
        chosen = select(cluster, only) if only else cluster.nodes
        running = [node for node in reversed(chosen) if host.state(cluster, node) == "running"]
        for node in running:
            domain = host.domain(cluster, node)
            assert domain is not None
            domain.shutdown()
        deadline = time.monotonic() + STOP_TIMEOUT
        waiting = list(running)
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL)
            waiting = [node for node in waiting if host.state(cluster, node) == "running"]
        for node in waiting:
            say(f"{node.name} did not shut down within {STOP_TIMEOUT:.0f} s: powered off")
            host.power_off(cluster, node)
    return [node.name for node in running]


def destroy(cluster: Cluster, say: Say, *, secrets: bool = False) -> list[str]:
    """Remove what was made for the cluster on the hypervisor and below build/; secrets only when asked."""
    ensure_daemon(cluster.uri, say)
    with connect(cluster.uri) as host:
        removed = host.remove(cluster)
    at = ClusterPaths.of(cluster.name)
    if at.root.is_dir():
        for path in sorted(at.root.iterdir()):
            if path != at.secrets:
                _remove(path)
        if secrets:
            _remove(at.secrets)
            removed.append("secrets")
        if not any(at.root.iterdir()):
            at.root.rmdir()
    return removed


def running_here() -> list[str]:
    """The domains, ours and others, that run in this machine's libvirtd; none where it does not run."""
    if not answers():
        return []
    with connect(SYSTEM_URI) as host:
        return host.running_domains()


def held_here() -> dict[str, str]:
    """The PCI devices of this machine that running domains have, to the domain's name.

    Asked read-only, which libvirtd allows every user. Raises HpcstateError when it does not answer even so.
    """
    if not answers():
        return {}
    with connect(SYSTEM_URI, read_only=True) as host:
        return host.held_devices()


def _refuse_held(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost) -> None:
    """Two clusters may name the same GPU, one at a time has it: HpcstateError that says which holds it."""
    held = host.held_devices()
    lines = [
        f"{node.name} needs {device.pci_address}, which {held[device.pci_address]} holds"
        for node in nodes
        for device in node.passthrough
        if held.get(device.pci_address, cluster.domain_name(node)) != cluster.domain_name(node)
    ]
    if lines:
        raise HpcstateError(
            "\n".join(lines), where=cluster.name, hint="stop that one first (hpcstate stop FILE --node NAME)"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
