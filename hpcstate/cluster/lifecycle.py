"""start, stop, status, destroy: a cluster's virtual machines from absent to answering on SSH, and back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hpcstate.cluster import cidata, reach
from hpcstate.cluster.boot import wait_for_ssh
from hpcstate.cluster.greet import drains_of_ours
from hpcstate.cluster.leave import DRAIN_SECONDS, Jobs, StopCommands, left, settle
from hpcstate.errors import HpcstateError
from hpcstate.files import alone
from hpcstate.hypervisor import autostart as boots_with_host
from hpcstate.hypervisor import backup_timer, firewall, ports
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import OFF, LibvirtHost, connect
from hpcstate.hypervisor.daemon import SYSTEM_URI, answers, ensure_daemon, has_nothing_of
from hpcstate.hypervisor.machine import MachineDifference, shrinks
from hpcstate.hypervisor.mark import new_mark, refusal
from hpcstate.hypervisor.observed import (
    differences,
    grow_disk,
    refuse_held,
    refuse_moved,
    refuse_other_identity,
    removed,
    update_network,
)
from hpcstate.hypervisor.removal import (
    Removal,
    of_node,
    refuse_snapshots,
    remove,
    remove_node,
    survey,
)
from hpcstate.model import Cluster, Node
from hpcstate.node.known_hosts import write_known_hosts
from hpcstate.node.secrets import ensure_secrets
from hpcstate.node.ssh import Live
from hpcstate.passthrough.claims import claimed, read_claims, write_claims
from hpcstate.paths import ClusterPaths, shown
from hpcstate.probe import pci
from hpcstate.run import local
from hpcstate.terminal import Say

STOP_TIMEOUT = 120.0
_POLL = 1.0


@dataclass(frozen=True)
class Started:
    """What ``start`` did: the nodes it powered on, those that ran already, where what is there still is not
    what the file says, and, where it powered nothing on, a line for each drain of ours that was left.
    """

    powered_on: tuple[str, ...]
    running: tuple[str, ...]
    differences: tuple[MachineDifference, ...] = ()
    drains: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was powered on."""
        return bool(self.powered_on)


def start(
    cluster: Cluster,
    file: Path,
    say: Say,
    only: Sequence[str] = (),
    *,
    autostart: bool | None = None,
    greeted: Live | None = None,
    demand: Callable[[], None] = lambda: None,
) -> Started:
    """Bring the nodes (those of ``only``, else all with auto_start) of the cluster in ``file`` up until they
    answer on SSH. Libvirt is told whether to start them as the hypervisor boots, where the file or
    ``autostart`` says so.

    ``greeted`` are connections to nodes that ran before (hpcstate.cluster.greet). ``demand`` raises
    HpcstateError where this machine cannot run them: it is asked before anything is powered on.

    Nodes that are powered on get what the file says now: memory, CPUs, devices, a larger disk. Running ones
    stay as they are, and what differs is in the result.

    Takes up whatever is half there. Raises HpcstateError when something of somebody else stands in the way,
    and naming the nodes that did not answer, with the end of their serial consoles.
    """
    nodes = select(cluster, only)
    at_boot = _at_boot(cluster, nodes, autostart)
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        if strangers := host.strangers(cluster):
            raise refusal(cluster, file, strangers)
        before = differences(host, cluster)
        refuse_other_identity(cluster, before)
        refuse_moved(host, cluster)
        _claim_devices(cluster, nodes, host)
        ensure_secrets(cluster)
        facts = host.facts(cluster)
        host.check(facts)
        mark = new_mark(cluster, file)
        if marked := host.take(cluster, mark, unmarked_only=True):
            say(f"marked as this cluster's own: {', '.join(marked)}")
        powered_on = [node.name for node in nodes if host.state(cluster, node) != "running"]
        if powered_on:
            demand()
        cidata.renew(cluster, nodes, host, say)
        if powered_on:
            why = "no working KVM here" if cluster.acceleration.enable_kvm else "enable_kvm is false"
            how = "KVM" if facts.kvm else f"software emulation (TCG: {why})"
            say(f"powering on {', '.join(powered_on)} under {how}")
        refuse_held(cluster, [node for node in nodes if node.name in powered_on], host)
        ports.refuse_taken(cluster)
        put_back = ""
        if not host.ensure_network(cluster, mark) and host.local and (put_back := firewall.put_back(cluster)):
            say(put_back)
        for line in update_network(host, cluster, mark):
            say(line)
        for each in (*ports.bring(cluster), *backup_timer.bring(cluster, file)):
            say(str(each))
        if powered_on:
            pool = host.volumes.ensure_pool(cluster, mark)
            for node in nodes:
                host.volumes.ensure(cluster, node, pool, host.disk(cluster, node))
                for what in grow_disk(host, cluster, node) if node.name in powered_on else ():
                    say(f"{node.name}: its {what} has the size of the file now")
                host.ensure_domain(cluster, node, facts, mark)
        _close_volumes(cluster, host, say)
        for row in boots_with_host.bring(host, cluster, at_boot):
            say(str(row))
        if left_out := boots_with_host.left_out(cluster, at_boot):
            say(
                f"{', '.join(left_out)} will not start when the hypervisor boots: which devices they get is "
                "compared by `hpcstate start` only"
            )
        if booted := boots_with_host.booted_with_devices(host, cluster):
            say(
                f"libvirt starts {', '.join(booted)} when the hypervisor boots, with whatever is then at the "
                "addresses of their devices: `virsh autostart --disable DOMAIN` ends that"
            )
        smaller = {each.what for each in before if shrinks(each)} & {*powered_on}
        if smaller and cluster.kind == "hpc":
            say(
                f"{', '.join(sorted(smaller))} got smaller than Slurm was told: no job starts there before a "
                f"deploy tells it (`./hpc up {shown(file)}`)"
            )
        # Behind everything that may refuse: with another file's addresses nobody would get in any more.
        write_known_hosts(cluster)
        drained: list[str] = []
        if powered_on or put_back:
            wait_for_ssh(
                cluster,
                nodes,
                host,
                say,
                booting=powered_on,
                then=lambda live: reach.demand(cluster, nodes, reach.asks(live), say, local=host.local),
            )
        else:
            wait_for_ssh(
                cluster,
                nodes,
                host,
                say,
                beside=lambda live: drained.extend(drains_of_ours(live, asked=bool(before))),
                greeted=greeted,
            )
        different = tuple(differences(host, cluster))
    running = tuple(node.name for node in nodes if node.name not in powered_on)
    return Started(tuple(powered_on), running, different, tuple(drained))


def _at_boot(cluster: Cluster, nodes: Sequence[Node], autostart: bool | None) -> dict[str, bool]:
    """Which nodes libvirt is to start as the hypervisor boots, by name: those of the file, or where that
    says nothing ``nodes``, as ``autostart`` has it. Raises HpcstateError when the two contradict."""
    if autostart is None:
        return boots_with_host.of_file(cluster)
    if cluster.autostart not in (None, autostart):
        raise HpcstateError(
            f"the cluster file says `autostart: {str(cluster.autostart).lower()}`, and the next start would "
            "go by that",
            where=f".clusters.{cluster.kind}.autostart",
            hint="change it there, or take it out; then the option counts",
        )
    return {node.name: autostart for node in nodes}


def _claim_devices(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost) -> None:
    """Compare the devices of ``nodes`` with what was meant, and keep what they are."""
    if not host.local or not any(node.passthrough for node in nodes):
        return
    at = ClusterPaths.of(cluster.name).claims
    found = pci.parse(local(pci.command()))
    write_claims(at, claimed(nodes, found, read_claims(at)))


@contextmanager
def connected(cluster: Cluster, say: Say) -> Iterator[LibvirtHost]:
    """The hypervisor of ``cluster``, with a libvirtd started where the machine runs none."""
    ensure_daemon(cluster.uri, say)
    with connect(cluster.uri) as host:
        yield host


def _close_volumes(cluster: Cluster, host: LibvirtHost, say: Say) -> None:
    """Volumes that others may read, made before 0600 was their mode, are closed; where this user may not do
    so, it is said how.
    """
    modes = host.volumes.modes(cluster)
    for path in [path for path, mode in modes.items() if mode & objects.OTHERS]:
        try:
            if not host.local:
                raise PermissionError
            Path(path).chmod(objects.VOLUME_MODE)
        except OSError:
            say(f"other users of the hypervisor can read {path}: run `sudo chmod 0600 {path}` there")


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


def stop(
    cluster: Cluster,
    file: Path,
    say: Say,
    only: Sequence[str] = (),
    *,
    jobs: Jobs = "refuse",
    timeout_s: float = DRAIN_SECONDS,
) -> list[str]:
    """Shut nodes down in order: workers first. One that does not within two minutes is powered off.

    ``jobs`` says what becomes of jobs on them. Paused nodes are resumed to be shut down. Raises HpcstateError
    when jobs are in the way, and when all that is there is somebody else's.
    """
    if has_nothing_of(cluster):
        return []  # none is started only to find nothing
    with connected(cluster, say) as host:
        if not host.domains(cluster) and (strangers := host.strangers(cluster)):
            raise refusal(cluster, file, strangers)
        chosen = select(cluster, only) if only else cluster.nodes
        on = [node for node in reversed(chosen) if host.state(cluster, node) not in OFF]
        workers = [node for node in on if node is not cluster.controller]
        which = "".join(f" --node {name}" for name in only)
        way = StopCommands(f"hpcstate stop FILE{which} --drain", f"hpcstate stop FILE{which} --force")
        with _emptied(cluster, workers, host, jobs, say, timeout_s, way):
            _shut_down(cluster, workers, host, say)
        _shut_down(cluster, [node for node in on if node is cluster.controller], host, say)
    return [node.name for node in on]


@contextmanager
def _emptied(
    cluster: Cluster,
    workers: Sequence[Node],
    host: LibvirtHost,
    jobs: Jobs,
    say: Say,
    timeout_s: float,
    way: StopCommands,
    *,
    unknown: bool = False,
) -> Iterator[None]:
    """``workers`` have no jobs while the block runs; of those that are paused, or whose addresses are
    ``unknown``, slurmctld is asked.
    """
    asked = list(workers)
    paused = {node.name for node in asked if unknown or host.state(cluster, node) != "running"}
    if cluster.kind != "hpc" or not asked or not ClusterPaths.of(cluster.name).ssh_key.exists():
        yield
        return
    by_name = {node.name: node for node in asked}

    def is_off(name: str) -> bool:
        return name in by_name and host.state(cluster, by_name[name]) in OFF

    with Live(cluster) as live, left(live, asked, jobs, say, timeout_s, is_off, paused, way):
        yield


def _shut_down(cluster: Cluster, nodes: Sequence[Node], host: LibvirtHost, say: Say) -> None:
    for node in nodes:
        domain = host.domain(cluster, node)
        assert domain is not None
        if host.state(cluster, node) == "paused":
            say(f"{node.name} is paused{_because(host.why(cluster, node))}: resuming it to shut it down")
            domain.resume()
        if domain.isActive() and host.state(cluster, node) == "running":
            domain.shutdown()
    deadline = time.monotonic() + STOP_TIMEOUT
    waiting = list(nodes)
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL)
        # One that is paused again at once (its disk is still full) would wait for nothing.
        waiting = [node for node in waiting if host.state(cluster, node) in ("running", "stopping")]
    for node in nodes:
        if (state := host.state(cluster, node)) not in OFF:
            why = (
                f"is {state}{_because(host.why(cluster, node))}"
                if state != "running"
                else "did not shut down"
            )
            limit = f" within {STOP_TIMEOUT:.0f} s" if state == "running" else ""
            say(f"{node.name} {why}{limit}: powered off")
            host.power_off(cluster, node)


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def remove_nodes(
    cluster: Cluster,
    file: Path,
    say: Say,
    *,
    timeout_s: float = DRAIN_SECONDS,
    snapshots: bool = False,
    out_of_slurm: Callable[[Sequence[str]], None] = lambda _: None,
) -> list[str]:
    """Remove the nodes that the file no longer has: their jobs are awaited, they are taken ``out_of_slurm``,
    they go off, and their domains and disks with them. Returns what was removed.

    Raises HpcstateError when the jobs do not end within ``timeout_s`` seconds, and, before anything is
    touched, when a node would become another one or get another's address, and when one has snapshots (unless
    ``snapshots``).
    """
    done: list[str] = []
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        if strangers := host.strangers(cluster):
            raise refusal(cluster, file, strangers)
        # Before anything goes: where a node would become another one, the wrong one would.
        refuse_other_identity(cluster, differences(host, cluster))
        refuse_moved(host, cluster)
        going = {name: of_node(survey(host, cluster), name) for name in removed(host, cluster)}
        for removal in going.values():
            if not snapshots:
                refuse_snapshots(removal)
        # Enough of a node for what knows it by its name only.
        nodes = [replace(cluster.nodes[-1], name=name, place=name) for name in going]
        on = [node for node in nodes if host.state(cluster, node) not in OFF]
        way = StopCommands("hpcstate start FILE --remove", "scancel JOB")
        with _emptied(cluster, on, host, "drain", say, timeout_s, way, unknown=True):
            out_of_slurm([node.name for node in nodes])
            _shut_down(cluster, on, host, say)
        for node in nodes:
            # Looked at again: waiting for jobs takes long, and somebody may have come to use its disk
            # meanwhile.
            removal = of_node(survey(host, cluster), node.name)
            if not snapshots:
                refuse_snapshots(removal)
            for what in remove_node(host, cluster, removal):
                say(f"removed {what}")
                done.append(what)
            for line in removal.staying_lines():
                say(line)
        for line in update_network(host, cluster, new_mark(cluster, file)):
            say(line)
    return done


def removal(
    cluster: Cluster, file: Path, say: Say, *, snapshots: bool = False, data: bool = False
) -> Removal:
    """What ``destroy`` would remove of ``cluster``, and what would stay. Raises HpcstateError where it would
    refuse: nobody is asked for what is not done.
    """
    with connected(cluster, say) as host:
        going = survey(host, cluster, data=data)
    if going.strangers and not going:
        raise refusal(cluster, file, going.strangers)
    if not snapshots:
        refuse_snapshots(going)
    return going


def destroy(
    cluster: Cluster,
    file: Path,
    say: Say,
    *,
    secrets: bool = False,
    snapshots: bool = False,
    data: bool = False,
) -> list[str]:
    """Remove what was made for the cluster on the hypervisor and below build/; secrets and the data volume
    only when asked. Nodes are powered off, but for a controller whose data volume stays.

    Raises HpcstateError, before anything is touched, when a domain has snapshots (unless ``snapshots``), and
    when all that is there is somebody else's.
    """
    with alone(ClusterPaths.of(cluster.name).root, say), connected(cluster, say) as host:
        going = survey(host, cluster, data=data)
        if going.strangers and not going:
            raise refusal(cluster, file, going.strangers)
        if not snapshots:
            refuse_snapshots(going)
        head = cluster.controller
        if objects.data_volume(head) in going.staying and host.state(cluster, head) not in ("absent", *OFF):
            say(f"{head.name} shuts down first: what stays of it has all of Slurm's state then")
            settle(cluster, say)
            _shut_down(cluster, [head], host, say)
        removed = remove(host, cluster, going)
        for line in going.staying_lines():
            say(line)
    at = ClusterPaths.of(cluster.name)
    if at.root.is_dir():
        for path in sorted(at.root.iterdir()):
            # Whoever asks what became of the cluster has the logs only, this run's among them.
            if path not in (at.secrets, at.logs):
                _remove(path)
        if secrets and going.left:
            say("keeps the keys: what stays is this cluster's own, and goes with them by `destroy` once more")
        elif secrets:
            _remove(at.secrets)
            removed.append("secrets")
        if not any(at.root.iterdir()):
            at.root.rmdir()
    return removed


def different(cluster: Cluster) -> list[MachineDifference]:
    """Where what libvirt has of ``cluster`` is not what its file says now."""
    if has_nothing_of(cluster):
        return []  # what runs nowhere is made anew as it starts
    with connect(cluster.uri) as host:
        return differences(host, cluster)


def domains_here() -> list[str]:
    """The domains, ours and others, that this machine's libvirtd has; none where it does not run."""
    if not answers():
        return []
    with connect(SYSTEM_URI) as host:
        return sorted(domain.name() for domain in host.connection.listAllDomains())


def held_here() -> dict[str, str]:
    """The PCI devices of this machine that running domains have, to the domain's name.

    Asked read-only, which libvirtd allows every user. Raises HpcstateError when it does not answer even so.
    """
    if not answers():
        return {}
    with connect(SYSTEM_URI, read_only=True) as host:
        return host.held_devices()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
