"""Nodes that boot: waited for until they let our key in, with what a slow or emulated machine may do
meanwhile."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.model import Cluster, Node
from hpcstate.node.ssh import Live, NotLetInError, OtherHostKeyError, UnreachableError
from hpcstate.run import at_once, tail
from hpcstate.terminal import Say

BOOT_TIMEOUT = 600.0
"""Seconds for all nodes to answer on SSH; a TCG guest alone needs under one minute, eight share two cores."""

STRANGE_SECONDS = 20.0
"""How long a node that was powered on just now may answer with another host key: one that boots for the first
time gets its own from cloud-init before sshd starts, but not every image is that careful."""

_STRANGE = "it answers with another host key than it was given"
_POLL = 1.0
_PROGRESS = 10.0

_STARVED = re.compile(r"rcu: rcu_\w+ kthread starved for")
"""What Linux prints while a thread of its RCU gets no timer: after 21 s, then every 63 s
(Documentation/RCU/stallwarn.rst)."""


def wait_for_ssh(
    cluster: Cluster,
    nodes: Sequence[Node],
    host: LibvirtHost,
    say: Say,
    booting: Sequence[str] = (),
    then: Callable[[Live], None] = lambda _: None,
    beside: Callable[[Live], None] = lambda _: None,
    greeted: Live | None = None,
) -> None:
    """Wait until every node lets our key in; a line for each that does, and one every ten seconds. ``then``
    is done on the same connections, ``beside`` too, while the nodes are waited for. ``greeted`` are
    connections that somebody has begun already.

    A node whose emulator crashed is powered on once more: QEMU 10 under TCG can stop at an assertion while
    the guest maps its devices (``iotlb_to_section``): seen once, on a busy host, in some 200 boots. One of
    ``booting`` (powered on just now: no job can run there) whose kernel has stalled is reset once: a guest
    under TCG can lose a timer interrupt as it boots, and then waits for it for ever: twice in some 600 boots.
    """
    begun = shown = time.monotonic()
    again: set[str] = set()
    strange: dict[str, float] = {}
    waiting = {node.name: node for node in nodes}
    first = set(waiting) if greeted else set()
    with nullcontext(greeted) if greeted else Live(cluster) as live, ThreadPoolExecutor(1) as pool:
        other = pool.submit(beside, live)
        while waiting:
            # At the same time: each first connection to a slow guest takes a second. Not to ask first whether
            # it is there spares one that has booted a whole connection.
            silent = at_once(
                lambda name: (
                    ("" if name in first else _silence(str(waiting[name].address)))
                    or _not_let_in(live, waiting[name], strange, booting)
                ),
                waiting,
            )
            first.clear()
            now = time.monotonic()
            for name in (name for name, why in silent.items() if not why):
                took = f" after {now - begun:.0f} s" if name in booting else ""
                say(f"{name}: answers on SSH{took}")
                del waiting[name]
            if waiting and now - begun > BOOT_TIMEOUT:
                raise _no_answer(cluster, list(waiting.values()), host)
            if waiting and now - shown > _PROGRESS:
                shown = now
                why = "; ".join(
                    f"{name}: {_STRANGE if name in strange else silent[name]}" for name in waiting
                )
                say(f"waiting for SSH ({now - begun:.0f} s): {why}")
                _reset_stalled(
                    cluster, [waiting[name] for name in booting if name in waiting], host, again, say
                )
            if waiting:
                time.sleep(_POLL)
                _revive(cluster, list(waiting.values()), host, again, say)
        then(live)
        other.result()


def _silence(address: str) -> str:
    """Why no SSH server greets at ``address``, empty where one does: far cheaper for a slow guest than a
    whole handshake."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            if connection.recv(4) == b"SSH-":
                return ""
    except ConnectionRefusedError:
        return "it is up, sshd is not yet"
    except OSError:
        return f"nothing answers at {address} yet"
    return "sshd does not greet yet"


def _not_let_in(live: Live, node: Node, strange: dict[str, float], booting: Collection[str]) -> str:
    """Why our key does not open ``node``, empty where it does. ``strange`` has since when one of ``booting``
    answers with another host key than it was given. Raises OtherHostKeyError for one that goes on
    doing so, and at once for one that ran before, NotLetInError too: waiting longer changes nothing.
    """
    try:
        if node.name in booting:
            live.run(node.name, "true", timeout=30)
        else:
            live.connect(node.name)  # a session costs a slow node half a second more, and tells no more
    except OtherHostKeyError:
        since = strange.setdefault(node.name, time.monotonic())
        if node.name not in booting or time.monotonic() - since >= STRANGE_SECONDS:
            raise
        return _STRANGE
    except NotLetInError:
        if node.name not in booting:
            raise
        return "sshd does not let our key in yet"
    except UnreachableError as error:
        # Its last words tell an /etc/nologin from a slow boot.
        return f"sshd does not let us in yet ({error.message.splitlines()[0]})"
    return ""


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
        hint="`hpcstate start FILE` takes up from here; `destroy` and `start` give fresh nodes",
    )
