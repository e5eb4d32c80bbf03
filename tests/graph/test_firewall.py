"""libvirt's firewall rules, taken away and put back, by a libvirtd and an iptables of a namespace's own.

Nothing of this machine is touched: network, mounts and processes are the namespace's, and end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("unshare", "iptables", "libvirtd", "virtlogd", "virsh", "dnsmasq", "ip")
OWN = ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")

PROGRAM = """
import subprocess, sys
from pathlib import Path
from hpcstate.hypervisor import daemon, firewall
from tests.unit.fake_live import a_cluster, a_node

def call(*words):
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (words, done.stderr)

for folder in {own!r}:
    Path(folder).mkdir(parents=True, exist_ok=True)
    call("mount", "-t", "tmpfs", "tmpfs", folder)
call("ip", "link", "set", "lo", "up")
cluster = a_cluster(a_node("head", 10), a_node("compute-01", 11))
bridge = cluster.network.bridge
daemon.ensure_daemon(daemon.SYSTEM_URI, lambda _: None)
Path("/run/net.xml").write_text(
    f"<network><name>{{cluster.network.name}}</name><forward mode='nat'/><bridge name='{{bridge}}'/>"
    "<ip address='192.168.253.1' netmask='255.255.255.0'/></network>"
)
call("virsh", "-c", daemon.SYSTEM_URI, "net-create", "/run/net.xml")
print("started", firewall.look().has_rules_of(bridge))
print("nothing to do", repr(firewall.put_back(cluster)))
call("iptables", "-F")
print("flushed", firewall.look().has_rules_of(bridge))
print("said", firewall.put_back(cluster))
print("again", firewall.look().has_rules_of(bridge))
call("iptables", "-P", "FORWARD", "DROP")
print("drops", firewall.look().drops)
daemon.end_daemon(lambda _: None)
call("iptables", "-F")
print("no daemon", repr(firewall.put_back(cluster)))
"""


def test_what_a_reload_of_the_firewall_took_away_is_put_back(tmp_path: Path) -> None:
    """firehol#368, with the daemon and the rules themselves."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in NEEDED if not shutil.which(name, path=path)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(own=OWN))
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*words, "--propagation", "private", sys.executable, str(program)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    if "ensure_daemon" in done.stderr or "net-create" in done.stderr:
        pytest.skip(f"no network of libvirt here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert said["started"] == "True"
    assert said["nothing"] == "to do ''"
    assert said["flushed"] == "False"
    assert "libvirtd has put them back" in said["said"]
    assert said["again"] == "True"
    assert said["drops"] == "True"
    assert said["no"] == "daemon ''"
