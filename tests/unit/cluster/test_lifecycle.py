"""Nodes: which are chosen, what a status means, what a node is given at first boot."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcstate import paths, schema
from hpcstate.cli import main
from hpcstate.cluster import boot, cidata, greet, lifecycle, status
from hpcstate.cluster.status import ClusterStatus, NodeStatus
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import daemon as libvirt_daemon
from hpcstate.hypervisor import observed, ports
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.machine import MachineDifference
from hpcstate.log import files_of
from hpcstate.model import Cluster, Node, PassthroughDevice
from hpcstate.node.cidata import CloudInit, write_cidata
from hpcstate.node.known_hosts import write_known_hosts
from hpcstate.node.secrets import MUNGE_KEY_BYTES, ensure_secrets, known_hosts_line, new_key
from hpcstate.node.ssh import NotLetInError, OtherHostKeyError, UnreachableError
from hpcstate.paths import ClusterPaths
from tests.unit.fake_live import FakeLive


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def test_only_what_starts_by_itself_is_started(cluster: Cluster) -> None:
    sleeping = replace(cluster.workers[1], auto_start=False)
    resting = replace(cluster, nodes=(*cluster.nodes[:2], sleeping))
    assert [node.name for node in lifecycle.select(resting, ())] == ["controller", "compute-01"]
    assert [node.name for node in lifecycle.select(resting, ["compute-02", "compute-02"])] == ["compute-02"]


class Hypervisor:
    """What lifecycle asks of a LibvirtHost: the state of each node, its console, whose keys it has."""

    def __init__(self, state: str = "running", other_keys: Sequence[str] = ()) -> None:
        self.of_all, self.other_keys = state, other_keys
        self.other_addresses: Sequence[str] = ()
        self.removed: list[str] = []
        self.volumes = self
        self.crashes: dict[str, int] = {}
        self.powered_on: list[str] = []
        self.consoles: dict[str, str] = {}
        self.resets: list[str] = []

    def state(self, _cluster: Cluster, node: Node) -> str:
        return "stopped" if self.crashes.get(node.name) else self.of_all

    def has_crashed(self, _cluster: Cluster, node: Node) -> bool:
        return bool(self.crashes.get(node.name))

    def power_on(self, _cluster: Cluster, node: Node) -> None:
        self.crashes[node.name] -= 1
        self.powered_on.append(node.name)

    def reset(self, _cluster: Cluster, node: Node) -> None:
        self.resets.append(node.name)

    def console(self, _cluster: Cluster, node: Node) -> str:
        return self.consoles.get(node.name) or f"[    1.0] Kernel panic on {node.name}\n"

    def has_other_keys(self, _cluster: Cluster, node: Node) -> bool:
        return node.name in self.other_keys

    def has_other_address(self, _cluster: Cluster, node: Node) -> bool:
        return node.name in self.other_addresses

    def remove_cidata(self, _cluster: Cluster, node: Node) -> None:
        self.removed.append(node.name)


@pytest.mark.parametrize(("state", "timeout"), [("running", 0.0), ("crashed", 600.0)])
def test_a_failed_start_shows_the_serial_consoles(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, state: str, timeout: float
) -> None:
    ensure_secrets(cluster)
    monkeypatch.setattr(boot, "BOOT_TIMEOUT", timeout)
    monkeypatch.setattr(boot, "_POLL", 0.0)
    monkeypatch.setattr(boot, "_silence", lambda _address: "nothing answers yet")
    with pytest.raises(HpcstateError) as caught:
        boot.wait_for_ssh(cluster, cluster.nodes[:2], Hypervisor(state), print)  # type: ignore[arg-type]
    said = str(caught.value)
    for name in ("controller", "compute-01"):
        assert f"{name} is {state}; the end of its serial console:\n    [    1.0] Kernel panic on" in said
    assert "compute-02" not in said
    assert "hint: `hpcstate start FILE` takes up from here" in said


@pytest.mark.parametrize(("crashes", "raises"), [(1, False), (2, True)])
def test_a_node_whose_emulator_crashed_is_powered_on_once_more(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, crashes: int, raises: bool
) -> None:
    ensure_secrets(cluster)
    host = Hypervisor()
    host.crashes["compute-01"] = crashes
    said: list[str] = []
    monkeypatch.setattr(boot, "_POLL", 0.0)
    monkeypatch.setattr(
        boot, "_silence", lambda _address: "" if said and not host.crashes["compute-01"] else "silent"
    )
    monkeypatch.setattr(boot, "_not_let_in", lambda *_: "")
    with pytest.raises(HpcstateError, match="no answer on SSH") if raises else nullcontext():
        boot.wait_for_ssh(cluster, cluster.nodes[:2], host, said.append)  # type: ignore[arg-type]
    assert host.powered_on == ["compute-01"]
    assert "the emulator of compute-01 crashed" in said[0]


def test_each_node_that_answers_is_said(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_secrets(cluster)
    monkeypatch.setattr(boot, "_silence", lambda _address: "")
    monkeypatch.setattr(boot, "_not_let_in", lambda *_: "")
    said: list[str] = []
    boot.wait_for_ssh(cluster, cluster.nodes[:2], Hypervisor(), said.append, ["compute-01"])  # type: ignore[arg-type]
    assert said == ["controller: answers on SSH", "compute-01: answers on SSH after 0 s"]


def test_what_goes_on_beside_has_ended_when_the_nodes_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_secrets(cluster)
    answers = threading.Event()
    monkeypatch.setattr(boot, "_silence", lambda _address: "" if answers.is_set() else "silent")
    monkeypatch.setattr(boot, "_not_let_in", lambda *_: "")
    monkeypatch.setattr(boot, "_POLL", 0.0)
    done: list[object] = []

    def beside(live: object) -> None:
        answers.set()  # before any node has answered
        done.append(live)

    boot.wait_for_ssh(cluster, cluster.nodes[:2], Hypervisor(), print, beside=beside)  # type: ignore[arg-type]
    assert len(done) == 1


class _Connections:
    """Of a Live: which nodes were begun with, and what their connection came to."""

    def __init__(self, silent: Sequence[str] = ()) -> None:
        self.silent = {*silent}
        self.begun: list[str] = []
        self.asked: list[str] = []

    def connect_soon(self, names: Sequence[str]) -> None:
        self.begun += names

    def connect(self, name: str) -> None:
        self.asked.append(name)
        if name in self.silent:
            self.silent.remove(name)
            raise UnreachableError(name, "silent", hint="")


def test_connections_that_were_begun_are_used_and_a_silent_node_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = _Connections(["compute-01"])
    greetings: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(boot, "_POLL", 0.0)

    def silence(address: str) -> str:
        greetings.append(address)
        return ""

    monkeypatch.setattr(boot, "_silence", silence)
    boot.wait_for_ssh(cluster, cluster.nodes[:2], Hypervisor(), said.append, greeted=live)  # type: ignore[arg-type]
    assert sorted(live.asked) == ["compute-01", "compute-01", "controller"]
    assert greetings == [str(cluster.nodes[1].address)], "only one that did not answer is asked what it is"
    assert said == ["controller: answers on SSH", "compute-01: answers on SSH"]


@pytest.mark.parametrize(
    ("daemon", "keys", "running", "greeted"),
    [
        (True, True, 2, True),
        (False, True, 2, False),
        (True, False, 2, False),
        (True, True, 1, False),
    ],
)
def test_a_cluster_is_greeted_that_runs_whole_with_our_keys(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    daemon: bool,
    keys: bool,
    running: int,
    greeted: bool,
) -> None:
    if keys:
        ensure_secrets(cluster)
        write_known_hosts(cluster)
    made: list[_Connections] = []

    def live(_: Cluster) -> nullcontext[_Connections]:
        made.append(_Connections())
        return nullcontext(made[-1])

    ours = replace(cluster, uri=libvirt_daemon.SYSTEM_URI, nodes=cluster.nodes[:2])
    (tmp_path / "qemu").mkdir()
    for node in ours.nodes[:running]:
        (tmp_path / "qemu" / f"{ours.domain_name(node)}.pid").touch()
    monkeypatch.setattr(libvirt_daemon, "SOCKET", tmp_path / "libvirt-sock")
    monkeypatch.setattr(libvirt_daemon, "answers", lambda: daemon)
    monkeypatch.setattr(greet, "Live", live)
    with greet.greet([ours]) as found:
        assert bool(found) == bool(made) == greeted
        if greeted:
            assert [*made[0].begun] == ["controller", "compute-01"]
    head, *rest = ours.nodes
    moved = replace(ours, nodes=(replace(head, address=IPv4Address("192.168.253.10")), *rest))
    with greet.greet([moved]) as found:
        assert found == {}, "a file with other addresses is refused, and changes no known_hosts"


_STALL = """\
[   84.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   84.2] rcu: rcu_preempt kthread starved for 5250 jiffies! g1141 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x402
[   84.2] rcu: RCU grace-period kthread stack dump:
"""


@pytest.mark.parametrize(
    ("stalls", "booting", "resets"),
    [(2, ["compute-01"], ["compute-01"]), (1, ["compute-01"], []), (3, ["controller"], [])],
    ids=["stalled", "a busy host", "it ran before and may have jobs"],
)
def test_a_kernel_that_stalls_as_it_boots_is_reset_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, stalls: int, booting: list[str], resets: list[str]
) -> None:
    ensure_secrets(cluster)
    host = Hypervisor()
    host.consoles["compute-01"] = stalls * _STALL
    said: list[str] = []
    monkeypatch.setattr(boot, "_POLL", 0.0)
    monkeypatch.setattr(boot, "_PROGRESS", 0.0)
    monkeypatch.setattr(boot, "_silence", lambda _address: "" if len(said) > 5 else "silent")
    monkeypatch.setattr(boot, "_not_let_in", lambda *_: "")
    boot.wait_for_ssh(cluster, cluster.nodes[:2], host, said.append, booting)  # type: ignore[arg-type]
    assert host.resets == resets
    assert sum("the kernel of compute-01 stalled" in line for line in said) == len(resets)
    assert any("compute-01: silent" in line for line in said), "why it is waited for"


def test_nodes_with_other_keys_get_the_new_ones_when_they_are_off(cluster: Cluster) -> None:
    host = Hypervisor("stopped", other_keys=["compute-01"])
    said: list[str] = []
    cidata.renew(cluster, cluster.nodes, host, said.append)  # type: ignore[arg-type]
    assert host.removed == ["compute-01"]
    assert len(said) == 1


@pytest.mark.parametrize("state", ["running", "paused", "stopping"])
def test_running_nodes_with_other_keys_are_named_at_once(cluster: Cluster, state: str) -> None:
    host = Hypervisor(state, other_keys=["compute-01"])
    with pytest.raises(HpcstateError, match=r"running with other keys.*: compute-01") as caught:
        cidata.renew(cluster, cluster.nodes, host, print)  # type: ignore[arg-type]
    assert "hpcstate stop" in caught.value.hint
    assert host.removed == []


def test_a_saved_node_would_not_boot_and_gets_no_keys(cluster: Cluster) -> None:
    host = Hypervisor("saved", other_keys=["compute-01"])
    with pytest.raises(HpcstateError, match=r"saved with other keys.*: compute-01") as caught:
        cidata.renew(cluster, cluster.nodes, host, print)  # type: ignore[arg-type]
    assert "virsh managedsave-remove gpu-compute-01" in caught.value.hint
    assert host.removed == []


@pytest.mark.parametrize("state", ["stopped", "running", "saved"])
def test_nodes_of_a_site_get_another_address_when_they_boot(cluster: Cluster, state: str) -> None:
    host = Hypervisor(state)
    host.other_addresses = ["compute-01"]
    if state == "stopped":
        cidata.renew(cluster, cluster.nodes, host, print)  # type: ignore[arg-type]
        assert host.removed == ["compute-01"]
        return
    with pytest.raises(HpcstateError, match="would get other addresses: compute-01"):
        cidata.renew(cluster, cluster.nodes, host, print)  # type: ignore[arg-type]
    assert host.removed == []


def test_a_libvirt_that_refuses_is_a_message() -> None:
    with (
        pytest.raises(HpcstateError, match=r"libvirt refused it: .*Premature") as caught,
        connect("test:///default") as host,
    ):
        host.connection.networkDefineXML("<network>")
    assert caught.value.where == "test:///default"


def test_a_libvirt_that_is_not_there_is_a_message(tmp_path: Path) -> None:
    uri = f"test://{tmp_path}/none"
    with pytest.raises(HpcstateError, match="libvirt does not answer") as caught, connect(uri):
        pass
    assert "libvirtd running" in caught.value.hint


@pytest.mark.parametrize("read_only", [True, False])
def test_a_uri_that_runs_a_program_is_refused_wherever_it_comes_from(tmp_path: Path, read_only: bool) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/it-ran\n")
    program.chmod(0o755)
    uri = f"qemu+ext:///system?command={program}"
    with pytest.raises(HpcstateError, match="a transport among") as caught, connect(uri, read_only=read_only):
        pass
    assert caught.value.where == uri
    assert not (tmp_path / "it-ran").exists()


def test_a_gpu_that_another_guest_holds_is_named_with_its_holder(cluster: Cluster) -> None:
    gpu = PassthroughDevice("0000:01:00.0", "gpu")
    node = replace(cluster.workers[0], passthrough=(gpu,))
    with connect("test:///default") as host:
        running = host.connection.lookupByName("test")
        running.destroy()
        address = '<address domain="0x0000" bus="0x01" slot="0x00" function="0x0"/>'
        hostdev = f'<hostdev mode="subsystem" type="pci" managed="yes"><source>{address}</source></hostdev>'
        xml = running.XMLDesc().replace("</devices>", f"{hostdev}</devices>")
        other = host.connection.defineXML(xml)
        assert host.held_devices() == {}
        other.create()
        assert host.held_devices() == {"0000:01:00.0": "test"}
        with pytest.raises(HpcstateError, match=r"compute-01 needs 0000:01:00\.0, which test holds"):
            observed.refuse_held(cluster, [node], host)
        observed.refuse_held(cluster, cluster.workers, host)


def test_libvirtd_goes_on_while_somebody_has_domains_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "started.json"
    monkeypatch.setattr(libvirt_daemon, "RECORD", record)
    monkeypatch.setattr(libvirt_daemon, "SOCKET", tmp_path / "libvirt-sock")
    # Nobody but this test reaps the process: while it is a zombie it still has its name.
    monkeypatch.setattr(libvirt_daemon, "_WAIT", 0.2)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        while Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":  # the kernel names it late in exec
            time.sleep(0.01)
        record.write_text(json.dumps({"sleep": sleeper.pid}))
        said: list[str] = []
        libvirt_daemon.end_daemon(said.append, ["lab-controller"])
        assert sleeper.poll() is None
        assert said == ["libvirtd goes on: it still has lab-controller"]
        libvirt_daemon.end_daemon(said.append)
        assert sleeper.wait(timeout=50) != 0
        assert not record.exists()
    finally:
        sleeper.kill()


def test_an_unknown_node_names_the_known_ones(cluster: Cluster) -> None:
    with pytest.raises(HpcstateError, match="compute-1") as caught:
        lifecycle.select(cluster, ["compute-1"])
    assert "compute-01" in caught.value.hint


def node(name: str, role: str, domain: str = "running", slurm: str = "") -> NodeStatus:
    return NodeStatus(name, role, "192.0.2.1", domain, slurm, "", "gpu:simulated:2", "", 2, 2, 2048)


@pytest.mark.parametrize(
    ("domain", "slurm", "error", "healthy"),
    [
        ("running", "IDLE", "", True),
        ("running", "MIXED+PLANNED", "", True),
        ("running", "ALLOCATED", "", True),
        ("running", "IDLE+DRAIN", "", False),
        ("running", "IDLE+NOT_RESPONDING", "", False),
        ("running", "DOWN", "", False),
        ("running", "IDLE+INVALID_REG", "", False),
        ("running", "", "", False),
        ("stopped", "IDLE", "", False),
        ("running", "IDLE", "slurmctld does not answer", False),
    ],
)
def test_what_counts_as_healthy(domain: str, slurm: str, error: str, healthy: bool) -> None:
    nodes = (node("controller", "controller"), node("compute-01", "compute", domain, slurm))
    assert ClusterStatus("gpu", "hpc", nodes, error).healthy is healthy


def test_simulated_gpus_are_marked() -> None:
    text = status.as_text(ClusterStatus("gpu", "hpc", (node("compute-01", "compute", slurm="IDLE"),), ""))
    assert "2 simulated" in text


@pytest.mark.parametrize(
    ("domain", "slurm", "stale"), [("stopped", "IDLE", True), ("stopped", "DOWN", False)]
)
def test_what_slurm_says_of_a_node_that_is_off_is_old(domain: str, slurm: str, stale: bool) -> None:
    nodes = (node("controller", "controller"), node("compute-01", "compute", domain, slurm))
    text = status.as_text(ClusterStatus("gpu", "hpc", nodes, ""))
    assert ("Slurm has not missed compute-01 yet" in text) is stale


def test_what_up_refuses_is_not_said_to_be_changed_by_it() -> None:
    more = MachineDifference("compute-01", "memory", "2048 MiB", "3072 MiB", "power-cycle")
    moved = MachineDifference("compute-02", "address", "10.0.0.12", "10.1.0.12", "address")
    nodes = (node("compute-01", "compute", slurm="IDLE"),)
    text = status.as_text(ClusterStatus("gpu", "hpc", nodes, "", differences=(more, moved)))
    changed, refused = text.split("`./hpc up` refuses")
    assert "`./hpc up` changes it:\n  compute-01: memory" in changed
    assert "compute-02: address 10.0.0.12 -> 10.1.0.12 (refused while it runs" in refused
    alone = status.as_text(ClusterStatus("gpu", "hpc", nodes, "", differences=(moved,)))
    assert "changes it" not in alone


def test_secrets_are_made_once_and_closed(cluster: Cluster) -> None:
    at = ClusterPaths.of(cluster.name)
    ensure_secrets(cluster)
    write_known_hosts(cluster)
    first = {path.name: path.read_bytes() for path in at.secrets.iterdir()}
    assert len(first["munge.key"]) == MUNGE_KEY_BYTES
    assert at.known_hosts.read_text().count("ssh-ed25519") == len(cluster.nodes)
    assert at.secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in at.secrets.iterdir() if path.suffix != ".pub"} == {0o600}
    ensure_secrets(cluster)
    write_known_hosts(cluster)
    assert {path.name: path.read_bytes() for path in at.secrets.iterdir()} == first


def test_another_host_key_is_another_instance(tmp_path: Path) -> None:
    keys = [new_key(tmp_path / name) for name in ("a", "b")]
    seeds = [CloudInit("compute-01", "admin", "ssh-ed25519 AAAA", key) for key in keys]
    assert seeds[0].instance_id != seeds[1].instance_id
    assert known_hosts_line("compute-01", keys[0].public).split()[:2] == ["compute-01", "ssh-ed25519"]


def test_the_seed_is_closed_and_has_both_forms(tmp_path: Path) -> None:
    iso = tmp_path / "node.iso"
    key = new_key(tmp_path / "key")
    write_cidata(CloudInit("compute-01", "admin", "ssh-ed25519 AAAA x", key, "52:54:00:00:00:01"), iso)
    assert iso.stat().st_mode & 0o777 == 0o600
    listing = subprocess.run(
        ["xorriso", "-indev", str(iso), "-find", "/"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("/user-data", "/meta-data", "/network-config", "/hpcstate/ssh_host_ed25519_key"):
        assert f"'{name}'" in listing
    assert not list(tmp_path.glob(".cidata.*"))


class Stranger:
    """A node that does not let us in: ``error`` is why."""

    def __init__(self, error: UnreachableError) -> None:
        self.error = error

    def run(self, node: str, _script: str, *, timeout: float) -> None:
        raise self.error

    def connect(self, node: str) -> None:
        raise self.error


def _machines(monkeypatch: pytest.MonkeyPatch, state: str, update: Callable[..., list[str]]) -> None:
    """Machines that are all in ``state``; a start comes as far as the network, which ``update`` brings."""
    host = SimpleNamespace(
        strangers=lambda _: [],
        facts=lambda _: SimpleNamespace(kvm=False),
        check=lambda _: None,
        local=True,
        take=lambda *_, **__: [],
        state=lambda *_: state,
        ensure_network=lambda *_: True,
        volumes=SimpleNamespace(has_other_keys=lambda *_: False, has_other_address=lambda *_: False),
    )
    monkeypatch.setattr(lifecycle, "connected", lambda *_: nullcontext(host))
    monkeypatch.setattr(lifecycle, "differences", lambda *_: [])
    for name in ("refuse_other_identity", "refuse_held", "refuse_moved"):
        monkeypatch.setattr(lifecycle, name, lambda *_: None)
    monkeypatch.setattr(ports, "refuse_taken", lambda _: None)
    monkeypatch.setattr(lifecycle, "update_network", update)


def test_a_start_that_is_refused_leaves_known_hosts(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_secrets(cluster)
    write_known_hosts(cluster)
    known = ClusterPaths.of(cluster.name).known_hosts
    before = known.read_bytes()

    def refused(*_: object) -> list[str]:
        raise HpcstateError("nodes that run would get other addresses")

    _machines(monkeypatch, "running", refused)
    nodes = tuple(replace(node, address=node.address + 256) for node in cluster.nodes)
    with pytest.raises(HpcstateError, match="would get other addresses"):
        lifecycle.start(replace(cluster, nodes=nodes), Path("other.yaml"), print)
    assert known.read_bytes() == before


@pytest.mark.parametrize(("state", "asked"), [("running", False), ("stopped", True)])
def test_what_this_machine_can_run_is_asked_before_a_node_is_powered_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, state: str, asked: bool
) -> None:
    """Also where connections were begun to nodes that seemed to run."""
    ensure_secrets(cluster)

    def demand() -> None:
        raise HpcstateError("too little memory")

    def update(*_: object) -> list[str]:
        raise HpcstateError("it went on")

    _machines(monkeypatch, state, update)
    with pytest.raises(HpcstateError, match="too little memory" if asked else "it went on"):
        lifecycle.start(cluster, Path("gpu.yaml"), print, demand=demand)


def test_another_host_key_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    node = cluster.workers[0]
    since: dict[str, float] = {}
    live = Stranger(OtherHostKeyError(node))
    with pytest.raises(HpcstateError, match="answers with another host key") as caught:
        boot._not_let_in(live, node, since, [])  # type: ignore[arg-type]
    assert since.keys() == {node.name}, "it was not powered on by us: nothing will change"
    since.clear()
    said = boot._not_let_in(live, node, since, [node.name])  # type: ignore[arg-type]
    assert said == "it answers with another host key than it was given"
    assert since.keys() == {node.name}, "a node that boots for the first time has its chance"
    monkeypatch.setattr(boot, "STRANGE_SECONDS", 0)
    with pytest.raises(HpcstateError, match="answers with another host key") as caught:
        boot._not_let_in(live, node, since, [node.name])  # type: ignore[arg-type]
    assert "ip neigh" in caught.value.hint and "`hpcstate start FILE`" in caught.value.hint
    refused = Stranger(UnreachableError(node.name, "x does not answer on SSH: Connection refused", hint="y"))
    assert "does not let us in" in boot._not_let_in(refused, node, {}, [node.name])  # type: ignore[arg-type]


def test_a_key_that_was_taken_out_is_not_waited_for(cluster: Cluster) -> None:
    node = cluster.workers[0]
    live = Stranger(NotLetInError(node))
    assert "does not let our key in" in boot._not_let_in(live, node, {}, [node.name])  # type: ignore[arg-type]
    with pytest.raises(NotLetInError, match="does not let the project's key in") as caught:
        boot._not_let_in(live, node, {}, [])  # type: ignore[arg-type]
    assert "`hpcstate stop FILE --node compute-01` and `hpcstate start FILE`" in caught.value.hint


@pytest.mark.parametrize(
    ("states", "reason", "shown"),
    [
        (["IDLE"], "hpcstate: stop", ""),
        (["DOWN", "NOT_RESPONDING"], "hpcstate: stop", "hpcstate: stop"),
        (["IDLE", "DRAIN"], "hpcstate: roll", "hpcstate: roll"),
        (["IDLE"], "fan", "fan"),
        (["DOWN"], "none", ""),
    ],
)
def test_a_reason_of_ours_ends_with_what_it_was_for(
    cluster: Cluster, states: list[str], reason: str, shown: str
) -> None:
    """Slurm keeps it when the node comes back by itself."""
    known = {"states": states, "reason": reason}
    assert status._merge(cluster.workers[0], "running", known).reason == shown


@pytest.mark.parametrize(
    ("staying", "state", "expected"),
    [
        (["controller_data.qcow2"], "running", ["shut down controller", "remove"]),
        (["controller_data.qcow2"], "stopped", ["remove"]),
        (["controller_data.qcow2"], "absent", ["remove"]),
        ([], "running", ["remove"]),
    ],
)
def test_a_controller_whose_data_volume_stays_shuts_down_first(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, staying: list[str], state: str, expected: list[str]
) -> None:
    """slurmctld writes its state seconds after a job was submitted, and as it ends."""
    done: list[str] = []
    host = SimpleNamespace(state=lambda *_: state)
    going = SimpleNamespace(strangers=(), left=(), staying=staying, staying_lines=lambda: ())
    monkeypatch.setattr(lifecycle, "connected", lambda *_: nullcontext(host))
    monkeypatch.setattr(lifecycle, "survey", lambda *_, data: going)
    monkeypatch.setattr(lifecycle, "refuse_snapshots", lambda _: None)

    def remove(*_: object) -> list[str]:
        done.append("remove")
        return []

    monkeypatch.setattr(lifecycle, "remove", remove)
    monkeypatch.setattr(
        lifecycle, "_shut_down", lambda _, nodes, *__: done.append(f"shut down {nodes[0].name}")
    )
    lifecycle.destroy(cluster, Path("lab.yaml"), lambda _: None)
    assert done == expected


def test_the_logs_outlive_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        strangers = left = staying = ()

        def staying_lines(self) -> list[str]:
            return []

    monkeypatch.setattr(lifecycle, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(lifecycle, "survey", lambda *_, data: Nothing())
    monkeypatch.setattr(lifecycle, "refuse_snapshots", lambda _: None)
    monkeypatch.setattr(lifecycle, "remove", lambda *_: [])
    ensure_secrets(cluster)
    at = ClusterPaths.of(cluster.name)
    (log,) = files_of([cluster.name], "destroy", make=True)
    log.write_text("this run")
    at.proof.write_text("{}")
    at.rendered.mkdir()
    lifecycle.destroy(cluster, Path("lab.yaml"), lambda _: None, secrets=True)
    assert list(at.root.iterdir()) == [at.logs]
    assert log.read_text() == "this run"


def test_slurmctld_is_asked_only_where_a_stop_left_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    recorded = (paths.ROOT / "tests/facts/slurm.SlurmNodes/normal_idle.txt").read_text()
    asked: list[str] = []

    def answer(node: str, _script: str) -> str:
        asked.append(node)
        return recorded

    live = FakeLive(answer)
    note = ClusterPaths.of(live.cluster.name).draining
    assert greet.drains_of_ours(live) == [] and asked == []
    note.parent.mkdir()
    note.write_text("compute-01\n")
    assert not any("drained" in line for line in greet.drains_of_ours(live)) and asked == ["controller"]
    assert not note.exists(), "somebody has lifted it"


def test_a_drain_that_a_killed_stop_left_is_found_and_no_others() -> None:
    recorded = (paths.ROOT / "tests/facts/slurm.SlurmNodes/quoting_reasons.txt").read_text()
    assert greet.drains_of_ours(FakeLive(lambda *_: recorded), asked=True) == []
    ours = re.sub(r'"reason": ".*"', '"reason": "hpcstate: stop"', recorded)
    lines = greet.drains_of_ours(FakeLive(lambda *_: ours), asked=True)
    assert lines and all("drained by hpcstate" in line for line in lines)
    assert greet.drains_of_ours(FakeLive(lambda *_: HpcstateError("silent")), asked=True) == []
    assert greet.drains_of_ours(FakeLive(lambda *_: "absent\n"), asked=True) == []


def test_status_names_what_up_refuses_and_what_is_reserved() -> None:
    both = (
        MachineDifference("compute-01", "memory", "1536 MiB", "2048 MiB", "power-cycle"),
        MachineDifference("compute-01", "CPUs", "2", "1", "power-cycle"),
    )
    nodes = (node("compute-01", "compute", slurm="IDLE+RESERVED"),)
    text = status.as_text(ClusterStatus("gpu", "hpc", nodes, "", differences=both))
    assert "compute-01 would grow and shrink at once: " in text
    assert "`./hpc up` refuses that: change one of the two" in text
    assert "`./hpc up` changes it" not in text
    assert "compute-01: reserved in Slurm" in text


@pytest.mark.parametrize(("differs", "code"), [(False, 0), (True, 1)])
def test_status_ends_with_1_where_something_is_not_as_the_file_says(
    differs: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (MachineDifference("compute-01", "memory", "1536 MiB", "2048 MiB", "power-cycle"),)
    nodes = (node("compute-01", "compute", slurm="IDLE"),)
    found = ClusterStatus("gpu", "hpc", nodes, "", differences=rows if differs else ())
    monkeypatch.setattr(status, "observe", lambda _: found)
    assert main(["status", str(paths.ROOT / "inventories" / "gpu.yaml")]) == code
    assert ("not as the file says" in capsys.readouterr().out) is differs
