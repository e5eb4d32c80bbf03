"""Homes that are shared are one, wherever somebody is; and nobody but the nodes gets at them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from hpcstate.check.jobs import new_name
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.data_volume import HOME
from hpcstate.node.homes import AUTOMOUNT, MOUNT, file_system, source
from hpcstate.node.ssh import JOB_USER, SSH_HOME, SSH_USER, Live, TimedOutError
from hpcstate.probe import homes
from hpcstate.probe.homes import HomesState
from tests.suites.breaking import last_worker

SECONDS = 30
"""How long a node may take for its homes: the first look mounts them."""

_WAIT = f"timeout --kill-after=5 {SECONDS}"
"""A node whose server is away would wait for ever (nfs(5), hard); such a program can be killed."""


def test_homes(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """A user's home is one on all nodes: what is written on one is read on every other"""
    _skip_if_local(cluster)
    names = [node.name for node in live.nodes if node is not controller]
    for name in names:
        live.demand(name)
    folder = f"{HOME}/{JOB_USER}/{new_name()}"
    mark = folder.rpartition("-")[2]
    try:
        live.run(controller.name, f"mkdir -m 700 {folder} && echo {mark} >{folder}/mark", user="hpc")
        look = f"{_WAIT} sh -c 'cat {folder}/mark && hostname >{folder}/$(hostname)' 2>&1"
        try:
            said = live.run_each(dict.fromkeys(names, look), user="hpc", timeout=SECONDS + 30, check=False)
        except TimedOutError as error:
            # Where the server is away, even becoming the user may wait for their home.
            raise CheckFailed(
                f"{HOME}/{JOB_USER} answers within {SECONDS} s on every node",
                f"{error.where}: {error.message}",
                f"systemctl status nfs-server on {controller.name}; " + DEPLOY_AGAIN,
            ) from error
        back = live.run(controller.name, f"cd {folder} && ls", user="hpc").stdout.split()
        mounts = {
            name: homes.parse(answer.stdout)
            for name, answer in live.run_each(dict.fromkeys(names, _question()), user="root").items()
        }
    finally:
        live.run(controller.name, f"rm -rf {folder}", user="hpc", check=False)
    by = (file_system(cluster), source(cluster))
    wrong = [
        f"{name} {why}"
        for name in names
        if (why := _wrong(said[name].stdout.strip(), mark, name in back, mounts[name], by))
    ]
    if wrong:
        how = "by NFSv4.2 that loses no write" if cluster.home == "nfs" else "from a folder of the hypervisor"
        raise CheckFailed(
            f"{HOME}/{JOB_USER} of {controller.name} on every node, {how}",
            "; ".join(wrong),
            f"systemctl status {AUTOMOUNT} {MOUNT} on the node, nfs-server on {controller.name}; "
            + DEPLOY_AGAIN,
        )
    record_property("observed", f"{source(cluster)} on {', '.join(names)}: written and read on each")


def _wrong(said: str, mark: str, came_back: bool, found: HomesState, wanted: tuple[str, str]) -> str:
    """What is wrong with the homes of a node, in words; empty when nothing is. ``said`` is what it read where
    ``mark`` was written, ``came_back`` whether the controller sees what it wrote, ``wanted`` file system and
    source."""
    kind, source_of = wanted
    there = [mount for mount in found["mounts"] if mount["type"] == kind]
    if said != mark:
        return f"reads {said.splitlines()[-1] if said else 'nothing'} in {SECONDS} s"
    if not came_back:
        return "writes what the controller does not see"
    if [mount["source"] for mount in there] != [source_of]:
        return f"has {', '.join(mount['source'] for mount in found['mounts']) or 'a disk of its own'} there"
    needed = {"nosuid", "nodev", *(("vers=4.2", "hard") if kind == "nfs4" else ())}
    lacking = needed - set(there[0]["options"])
    return f"has it without {', '.join(sorted(lacking))}" if lacking else ""


def test_served(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """The controller serves the homes to the cluster's nodes and to nobody else; root of a node is nobody"""
    _skip_if_local(cluster)
    if cluster.home != "nfs":
        pytest.skip("a folder of the hypervisor is served to nobody (storage.home: virtio_fs)")
    node = live.workers[0]
    live.demand(node.name)
    found = homes.parse(live.run(controller.name, _question(), user="root").stdout)
    clients, wanted = found["exports"].get(HOME, []), [str(each.address) for each in cluster.others]
    path = f"{HOME}/{new_name()}"
    try:
        touched = live.run(
            node.name, f"{_WAIT} touch {path} 2>&1", user="root", timeout=SECONDS + 30, check=False
        )
    finally:
        live.run(controller.name, f"rm -f {path}", user="root")
    wrong = [
        text
        for text, is_so in (
            (f"exported to {', '.join(clients) or 'nobody'}", sorted(clients) != sorted(wanted)),
            (f"NFS {' '.join(found['versions'])}", not {"-3", "+4.2"} <= set(found["versions"])),
            (f"root of {node.name} writes to {HOME}", touched.code == 0),
        )
        if is_so
    ]
    if wrong:
        raise CheckFailed(
            f"NFSv4.2 for {', '.join(wanted)} alone, without root's rights", "; ".join(wrong), DEPLOY_AGAIN
        )
    said = touched.stdout.strip()
    record_property("observed", f"{HOME} for {', '.join(clients)}; root of {node.name}: {said}")


def test_way_in(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """The account that hpcstate logs in with needs no server: its home is on each node's own disk"""
    names = [node.name for node in live.nodes]
    ask = f"getent passwd {SSH_USER} | cut -d : -f 6; ls {SSH_HOME}/.ssh/authorized_keys"
    said = live.run_each(dict.fromkeys(names, ask), user="root", check=False)
    wanted = [SSH_HOME, f"{SSH_HOME}/.ssh/authorized_keys"]
    if wrong := [name for name in names if said[name].stdout.split() != wanted]:
        raise CheckFailed(
            f"{SSH_HOME} with its key on every node",
            "; ".join(f"{name}: {said[name].stdout.split()[:1]}" for name in wrong),
            DEPLOY_AGAIN,
        )
    record_property("observed", f"{SSH_HOME} on {len(names)} nodes")


def _question() -> str:
    return homes.command(SSH_USER, HOME, (MOUNT, AUTOMOUNT))


def _skip_if_local(cluster: Cluster) -> None:
    if cluster.home == "local":
        pytest.skip("each node has its own homes (storage.home: local)")


def _skip_unless_served(live: Live) -> None:
    if live.cluster.home != "nfs":
        pytest.skip("no homes are served")


@fault("the homes of a node are on its own disk", "storage.homes")
def not_mounted(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    try:
        live.run(name, f"systemctl stop {AUTOMOUNT} {MOUNT}", user="root")
        yield
    finally:
        live.run(name, f"systemctl start {AUTOMOUNT}", user="root")


@fault("nobody serves the homes", "storage.homes")
def no_server(live: Live) -> Iterator[None]:
    _skip_unless_served(live)
    controller, name = live.cluster.controller.name, last_worker(live).name
    try:
        live.run(controller, "systemctl stop nfs-server", user="root")
        yield
    finally:
        live.run(controller, "systemctl start nfs-server", user="root")
        # A node that was refused for a while asks again after a minute or so, and a server that comes back
        # lets those in first who had files open (nfs.conf(5), grace-time).
        path = shlex.quote(f"{HOME}/{JOB_USER}/{new_name()}")
        live.run(name, f"timeout --kill-after=5 300 sh -c 'touch {path}; rm {path}'", user="hpc", timeout=330)


@fault("the homes are exported to everybody, with root's rights", "storage.served")
def open_to_all(live: Live) -> Iterator[None]:
    _skip_unless_served(live)
    controller = live.cluster.controller.name
    try:
        live.run(controller, f"exportfs -o rw,no_root_squash,insecure '*:{HOME}'", user="root")
        yield
    finally:
        live.run(controller, "exportfs -ra", user="root")


@fault("the way in leads through /home", "storage.way_in")
def way_in_home(live: Live) -> Iterator[None]:
    name = last_worker(live).name

    def move(there: str) -> str:
        # usermod refuses while the account has processes; here it sees none.
        return f"unshare --pid --fork --mount-proc usermod --home {there} {SSH_USER}"

    try:
        live.run(name, move(f"{HOME}/{SSH_USER}"), user="root")
        yield
    finally:
        live.run(name, move(SSH_HOME), user="root")
