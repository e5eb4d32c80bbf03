"""The host loses its power and comes back: libvirt brings the cluster back by itself. The long lab."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.connection import connect
from hpcstate.hypervisor.daemon import RECORD, SOCKET, SYSTEM_URI, ensure_daemon
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.run import run
from tests.lab.conftest import hpcstate, pyinfra
from tests.lab.test_6_roll import boot
from tests.lab.test_6_sizes import slurm_nodes

BOOT_SECONDS = 600
RUNNING = ("libvirtd", "virtlogd", "dnsmasq", "qemu-system-x86")
"""What of libvirt's a host without power no longer runs; /proc/PID/comm has 15 characters of it."""


@pytest.fixture
def autostarted(deployed: None, cluster_file: Path) -> Iterator[Path]:
    """The lab's file with `autostart: true`; libvirt starts nothing of it by itself any more at the end."""
    before = cluster_file.read_text()
    line = "    name: lab\n"
    for setting in ("true", "false"):
        cluster_file.write_text(before.replace(line, f"{line}    autostart: {setting}\n", 1))
        done = hpcstate("start", str(cluster_file))
        assert done.returncode == 0
        if setting == "true":
            assert "autostart" in done.stdout
            yield cluster_file
    cluster_file.write_text(before)


def power_lost(cluster: Cluster) -> None:
    """Everything of libvirt's ends at once, and what is only in memory is gone: /run, and the bridge."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() in RUNNING:
                os.kill(int(process.name), signal.SIGKILL)
    time.sleep(2)
    for path in SOCKET.parent.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    RECORD.unlink(missing_ok=True)
    assert cluster.network is not None
    run(["ip", "link", "delete", cluster.network.bridge])


def test_the_cluster_comes_back_with_its_host(live: Live, autostarted: Path, cluster: Cluster) -> None:
    before = {node.name: boot(live, node.name) for node in cluster.nodes}
    power_lost(cluster)
    ensure_daemon(SYSTEM_URI, print)
    with connect(SYSTEM_URI) as host:
        assert host.network(cluster) is not None
        assert {host.state(cluster, node) for node in cluster.nodes} == {"running"}
    deadline = time.monotonic() + BOOT_SECONDS
    names = [node.name for node in cluster.workers]
    while True:
        with suppress(HpcstateError), Live(cluster) as anew:
            states = {name: state for name, (_, state) in slurm_nodes(anew).items()}
            if states == dict.fromkeys(names, "idle"):
                assert all(boot(anew, name) != id for name, id in before.items())
                break
        assert time.monotonic() < deadline
        time.sleep(3)
    (report,) = json.loads(hpcstate("status", str(autostarted), "--json").stdout)
    assert {node["domain"] for node in report["nodes"]} == {"running"}
    assert hpcstate("plan", str(autostarted)).returncode == 0


def test_a_libvirtd_that_was_ended_under_the_cluster_is_started_again(
    deployed: None, cluster_file: Path
) -> None:
    before = json.loads(RECORD.read_text())
    os.kill(before["libvirtd"], signal.SIGTERM)
    deadline = time.monotonic() + 60
    while SOCKET.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    planned = hpcstate("plan", str(cluster_file))
    assert planned.returncode == 2
    assert "create" not in planned.stdout, "the cluster is there"
    started = hpcstate("start", str(cluster_file))
    assert started.returncode == 0
    assert "running already" in started.stdout
    assert json.loads(RECORD.read_text())["virtlogd"] == before["virtlogd"]


def test_a_host_key_that_was_changed_on_the_node(deployed: None, cluster_file: Path) -> None:
    file, name = str(cluster_file), "compute-01"
    change = "rm /etc/ssh/ssh_host_*; ssh-keygen -qA; systemctl restart ssh"
    hpcstate("ssh", file, name, "--", f"sudo sh -c '{change}'")
    begun = time.monotonic()
    done = hpcstate("start", file)
    assert done.returncode == 2 and time.monotonic() - begun < 15
    assert f"answers with another host key than {name} was given" in done.stderr
    # slurmctld is asked for its jobs; the boot brings the given key back.
    assert hpcstate("stop", file, "--node", name).returncode == 0
    assert hpcstate("start", file).returncode == 0
    assert hpcstate("ssh", file, name, "--", "true").returncode == 0


def test_the_projects_key_that_was_taken_out_on_the_node(deployed: None, cluster_file: Path) -> None:
    file, name = str(cluster_file), "compute-01"
    hpcstate("ssh", file, name, "--", "echo 'ssh-ed25519 AAAA a person' >.ssh/authorized_keys")
    hpcstate("ssh", file, name, "--", "sudo rm /etc/ssh/authorized_keys.d/admin")
    refused = hpcstate("ssh", file, name, "--", "true")
    assert refused.returncode == 2 and "does not let the project's key in" in refused.stderr
    begun = time.monotonic()
    done = hpcstate("start", file)
    assert done.returncode == 2 and time.monotonic() - begun < 15
    assert "does not let the project's key in" in done.stderr
    assert hpcstate("stop", file, "--node", name).returncode == 0
    assert hpcstate("start", file).returncode == 0
    there = hpcstate("ssh", file, name, "--", "cat .ssh/authorized_keys")
    assert (there.returncode, "a person" in there.stdout) == (0, True)
    assert pyinfra(cluster_file, "-y").returncode == 0, "the key lies where homes that are away hide no key"
