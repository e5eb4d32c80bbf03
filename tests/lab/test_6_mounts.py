"""Mounts on a living cluster: added, read-only, their server dead, changed, removed; a folder of the host,
written on both sides. The long lab."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.fit_host import virtiofsd_missing
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import ON_THE_VOLUME, pyinfra, results

SERVED = "/srv/lab-export"
NODE = "compute-01"
ENTRY = "        - {type: nfs, server: %s, path: %s, mount_point: /lab-data, read_only: %s, nodes: [%s]}\n"
MOUNTS = "      mounts:\n"
MOUNTED_AT = 'awk \'$5 == "%s" {for (i = 7; $i != "-"; i++); print $(i + 1)}\' /proc/self/mountinfo'


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    with Live(cluster) as live:
        yield live


@pytest.fixture
def server(live: Live) -> Iterator[None]:
    """The controller exports a second folder, by hand: hpcstate leaves it alone."""
    export = f"exportfs -o rw,no_root_squash,no_subtree_check,fsid=4711 192.168.170.0/24:{SERVED}"
    live.run(
        "controller",
        f"mkdir -p {SERVED} && chmod 777 {SERVED} && echo of the server >{SERVED}/mark && {export}",
        user="root",
    )
    yield
    live.run(
        "controller", f"exportfs -u 192.168.170.0/24:{SERVED}; rm -rf {SERVED}", user="root", check=False
    )


@contextmanager
def more_mounts(cluster_file: Path) -> Iterator[Callable[[str], object]]:
    """Puts an entry into the lab's file, in the place of the one before; at the end there is none, and it is
    deployed."""
    before = cluster_file.read_text()
    assert MOUNTS in before
    try:
        yield lambda entry: cluster_file.write_text(before.replace(MOUNTS, MOUNTS + entry, 1))
    finally:
        cluster_file.write_text(before)
        deploy(cluster_file)


def nfs(*, read_only: bool, server: str = "192.168.170.10") -> str:
    return ENTRY % (server, SERVED, str(read_only).lower(), NODE)


def deploy(file: Path) -> subprocess.CompletedProcess[str]:
    done = pyinfra(file, "--json", "-y")
    assert done.returncode == 0, done.stderr[-3000:]
    again = pyinfra(file, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {}), "a second deploy changes something"
    return done


def mounted(live: Live, place: str) -> list[str]:
    """What is mounted at ``place`` of the node, by type; nothing looks at it."""
    return live.run(NODE, MOUNTED_AT % place, user="root").stdout.split()


def test_a_mount_is_added_changed_and_removed(server: None, live: Live, cluster_file: Path) -> None:
    try:
        with more_mounts(cluster_file) as write:
            write(nfs(read_only=False))
            deploy(cluster_file)
            assert live.run(NODE, "cat /lab-data/mark", user="hpc").stdout == "of the server\n"
            live.run(NODE, "echo of the node >/lab-data/back", user="hpc")
            assert live.run("controller", f"cat {SERVED}/back", user="root").stdout == "of the node\n"

            # One that is in use is named and stays; nothing else is held up.
            start = "systemd-run --quiet --unit=lab-busy --working-directory=/lab-data sleep 600"
            live.run(NODE, start, user="root")
            write(nfs(read_only=True))
            busy = pyinfra(cluster_file, "--json", "-y")
            assert busy.returncode == 0, busy.stderr[-2000:]
            assert "processes use /lab-data: sleep" in busy.stderr, busy.stderr[-2000:]
            live.run(NODE, "echo still >/lab-data/back", user="hpc")
            live.run(NODE, "systemctl stop lab-busy", user="root")

            deploy(cluster_file)
            refused = live.run(NODE, "echo no >/lab-data/back", user="root", check=False)
            assert refused.code != 0 and "Read-only" in refused.stderr
    finally:
        live.run(NODE, "systemctl stop lab-busy", user="root", check=False)
    assert mounted(live, "/lab-data") == []
    assert live.run(NODE, "ls -d /lab-data", user="root", check=False).code != 0


def boot_of(cluster: Cluster) -> str:
    """What the kernel of the node calls its boot; empty while it does not answer."""
    with suppress(HpcstateError), Live(cluster) as live:
        return live.run(NODE, "cat /proc/sys/kernel/random/boot_id", user="root").stdout
    return ""


def test_a_dead_server_hangs_nothing(cluster: Cluster, cluster_file: Path) -> None:
    with more_mounts(cluster_file) as write, Live(cluster) as live:
        write(nfs(read_only=True, server="192.168.170.250"))
        begun = time.monotonic()
        done = pyinfra(cluster_file, "--json", "-y")
        assert done.returncode == 0, done.stderr[-3000:]
        assert "/lab-data does not answer" in done.stderr
        assert time.monotonic() - begun < 300
        again = pyinfra(cluster_file, "--json", "-y")
        assert (again.returncode, results(again.stdout)) == (0, {})
        # Whoever looks waits for a while, and no longer.
        begun = time.monotonic()
        live.run(NODE, "ls /lab-data", user="root", check=False, timeout=120)
        assert time.monotonic() - begun < 90
        # A job that does not look there runs, and the node comes back from a boot.
        live.run("controller", f"srun -w {NODE} -t 2 true", user="hpc", timeout=120)
        boot_id = live.run(NODE, "cat /proc/sys/kernel/random/boot_id", user="root").stdout
        with suppress(HpcstateError):
            live.run(NODE, "systemctl reboot", user="root", check=False)
        deadline = time.monotonic() + 400
        while boot_of(cluster) in ("", boot_id):
            assert time.monotonic() < deadline, "the node does not come back while a server is dead"
            time.sleep(5)
    with Live(cluster) as live:
        assert mounted(live, "/lab-data") == []


@pytest.mark.skipif(bool(virtiofsd_missing()), reason="this host has no virtiofsd")
def test_a_folder_of_the_host(cluster: Cluster, cluster_file: Path) -> None:
    """The node goes off and on for it, and once more when it goes."""
    folder = Path("/var/tmp/hpcstate-lab-share")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "mark").write_text("of the host\n")
    entry = f"        - {{type: virtio_fs, host_path: {folder}, mount_point: /lab-share, nodes: [{NODE}]}}\n"
    hpcstate = [sys.executable, "-m", "hpcstate"]

    def off_and_on() -> None:
        for step in (["stop", str(cluster_file), "--node", NODE], ["start", str(cluster_file)]):
            subprocess.run([*hpcstate, *step], check=True, timeout=900)

    try:
        with more_mounts(cluster_file) as write:
            write(entry)
            plan = subprocess.run(
                [*hpcstate, "plan", str(cluster_file)], capture_output=True, text=True, check=False
            )
            assert "shared folders none ->" in plan.stdout, plan.stdout + plan.stderr
            off_and_on()
            deploy(cluster_file)
            with Live(cluster) as live:
                assert live.run(NODE, "cat /lab-share/mark", user="hpc").stdout == "of the host\n"
                live.run(NODE, "echo of the node >/lab-share/back", user="hpc")
            assert (folder / "back").read_text() == "of the node\n"
        off_and_on()
    finally:
        shutil.rmtree(folder)
    with Live(cluster) as live:
        assert mounted(live, "/lab-share") == []


@pytest.mark.skipif(bool(virtiofsd_missing()), reason="this host has no virtiofsd")
def test_homes_move_to_a_folder_of_the_host_and_back(cluster: Cluster, cluster_file: Path) -> None:
    """What is at home stays there, both ways; what is written there comes back, to an empty volume."""
    folder = Path("/var/tmp/hpcstate-lab-home")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    hpcstate = [sys.executable, "-m", "hpcstate"]
    before = cluster_file.read_text()
    there = f"    storage:\n      home: virtio_fs\n      home_path: {folder}\n"

    def machines_and_deploy() -> None:
        subprocess.run([*hpcstate, "stop", str(cluster_file)], check=True, timeout=900)
        subprocess.run([*hpcstate, "start", str(cluster_file)], check=True, timeout=900)
        deploy(cluster_file)

    with Live(cluster) as live:
        live.run("controller", "echo of the volume >/home/hpc/lab-moves", user="hpc")
    try:
        cluster_file.write_text(before.replace(ON_THE_VOLUME, "").replace("    storage:\n", there, 1))
        refused = pyinfra(cluster_file, "--json", "-y")
        assert refused.returncode != 0 and "is not in this machine" in refused.stderr, refused.stderr[-2000:]
        with Live(cluster) as live:
            assert live.run(NODE, "cat /home/hpc/lab-moves", user="hpc").stdout == "of the volume\n"
        machines_and_deploy()
        assert (folder / "hpc/lab-moves").read_text() == "of the volume\n"
        with Live(cluster) as live:
            for node in live.cluster.nodes:
                kinds = live.run(
                    node.name, "ls /home/hpc >/dev/null; " + MOUNTED_AT % "/home", user="root"
                ).stdout
                assert kinds.split() == ["autofs", "virtiofs"], node.name
            live.run(
                "controller", f"srun -w {NODE} -t 2 sh -c 'echo of a job >lab-moves'", user="hpc", timeout=180
            )
            assert (folder / "hpc/lab-moves").read_text() == "of a job\n"
            # The homes of the volume, from before, would count again: this is the way in which they do not.
            live.run("controller", "mv /srv/hpcstate/home /srv/hpcstate/home.before", user="root")
        cluster_file.write_text(before)
        deploy(cluster_file)
        with Live(cluster) as live:
            said = live.run(NODE, "cat /home/hpc/lab-moves", user="hpc", timeout=180).stdout
            assert said == "of a job\n"
            live.run("controller", "rm -rf /srv/hpcstate/home.before /home/hpc/lab-moves", user="root")
        machines_and_deploy()
    finally:
        if cluster_file.read_text() != before:
            cluster_file.write_text(before)
            machines_and_deploy()
        shutil.rmtree(folder, ignore_errors=True)
