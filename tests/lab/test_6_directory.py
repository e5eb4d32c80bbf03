"""People of an LDAP directory on a living cluster: they come, log in, work, their directory dies, they go.
The long lab.

The lab reaches no mirror. HPCSTATE_LAB_DEBS names a folder with the packages of trixie that are needed:
slapd, sssd-ldap, libnss-sss, libpam-sss, ca-certificates, and all that they need. Without it this is skipped.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import programs, schema
from hpcstate.check.runner import load_suites, run_checks
from hpcstate.model import Cluster
from hpcstate.node.ssh import CONNECT_SECONDS, Live, ssh_command
from hpcstate.paths import ClusterPaths
from tests.lab.conftest import outcomes, pyinfra, results
from tests.lab.mirror import DEBS, mirror
from tests.suites.login import REFUSAL

PASSWORD = "lab secret"
DIRECTORY = """    directory:
      ldap:
        uri: ldap://controller
        base: dc=lab
        ca_file: {folder}/ca.pem
        bind_dn: cn=sssd,dc=lab
        bind_password_file: {folder}/secret
        allow_groups: [hpcusers]
"""
MEMBER = "        - {name: alice, accounts: [physics]"
TRACES = (
    "getent passwd carol; grep -l sss /etc/nsswitch.conf /etc/pam.d/common-*; command -v sssd; "
    "ls -d /etc/sssd /var/lib/sss /etc/hpcstate/directory /home/.hpcstate-wanted 2>/dev/null; "
    "grep -c AuthorizedKeysCommand /etc/ssh/sshd_config.d/10-hpcstate.conf"
)

__all__ = ["mirror"]
pytestmark = pytest.mark.skipif(not DEBS, reason="HPCSTATE_LAB_DEBS names no folder of packages")


@pytest.fixture(scope="module")
def live(deployed: None, cluster: Cluster) -> Iterator[Live]:
    with Live(cluster) as live:
        yield live


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key pair of carol."""
    path = tmp_path_factory.mktemp("carol") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def file(mirror: None, live: Live, key: Path, cluster_file: Path) -> Iterator[Path]:
    """The cluster file with a directory that lies on the controller; put back and deployed at the end."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends slapd"
    live.run("controller", install, user="root", timeout=600)
    public = key.with_suffix(".pub").read_text().strip()
    address = str(live.cluster.controller.address)
    program = programs.command(
        Path(__file__).with_name("slapd.sh"), arguments=["controller", address, public]
    )
    authority = live.run("controller", program, user="root", timeout=120).stdout
    (key.parent / "ca.pem").write_text(authority)
    (key.parent / "secret").write_text(f"{PASSWORD}\n")
    before = cluster_file.read_text()
    assert MEMBER in before
    with_carol = before.replace(MEMBER, f"        - {{name: carol}}\n{MEMBER}")
    cluster_file.write_text(with_carol + DIRECTORY.format(folder=key.parent))
    yield cluster_file
    cluster_file.write_text(before)
    assert pyinfra(cluster_file, "-y").returncode == 0
    live.run(
        "controller",
        "systemctl stop lab-slapd; apt-get -q -y purge slapd; rm -rf /srv/lab-ldap /home/carol",
        user="root",
        timeout=300,
        check=False,
    )


def deploy(file: Path) -> str:
    done = pyinfra(file, "--json", "-y")
    assert done.returncode == 0, done.stderr[-3000:]
    assert PASSWORD not in done.stdout + done.stderr
    again = pyinfra(file, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {}), "a second deploy changes something"
    return done.stdout


def login(cluster: Cluster, key: Path, name: str, node: str, script: str) -> subprocess.CompletedProcess[str]:
    address = next(each.address for each in cluster.nodes if each.name == node)
    ssh, *options = ssh_command(ClusterPaths.of(cluster.name), Path("none"))
    command = [ssh, f"-oIdentityFile={key}", "-oLogLevel=INFO", *options, f"{name}@{address}", script]
    timeout = 2 * CONNECT_SECONDS + 180
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_one_of_the_directory_logs_in_and_works(live: Live, cluster: Cluster, file: Path, key: Path) -> None:
    refused = pyinfra(file, "--dry", "--json")
    assert refused.returncode == 0 and PASSWORD not in refused.stdout + refused.stderr
    deploy(file)
    said = live.run_each(
        {node.name: "id carol; id alice; getent passwd thief" for node in live.nodes}, check=False
    )
    whole = "uid=7010(carol) gid=7000(hpcusers) groups=7000(hpcusers)\n"
    for name, answer in said.items():
        assert answer.stdout.startswith(f"{whole}uid=2001(alice)") and "thief" not in answer.stdout, name
    # The first login: no home was there, and the controller of the lab is where one logs in.
    first = login(
        cluster,
        key,
        "carol",
        "controller",
        "pwd; ls -A; sbatch --wait --quiet -o out --wrap 'id -u'; cat out",
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0] == "/home/carol" and first.stdout.splitlines()[-1] == "7010"
    assert ".profile" in first.stdout
    for name in ("stranger", "thief"):
        assert login(cluster, key, name, "controller", "true").returncode != 0, name
    # Keys of the directory open no account of the node's own files.
    assert login(cluster, key, "alice", "controller", "true").returncode != 0
    away = login(cluster, key, "carol", "compute-01", "true")
    assert away.returncode != 0 and REFUSAL in away.stderr
    # An account of the node's files is refused, too: libpam-sss changes Debian's rules.
    hpc = login(cluster, ClusterPaths.of(cluster.name).ssh_key, "hpc", "compute-01", "true")
    assert hpc.returncode != 0 and REFUSAL in hpc.stderr
    with Live(schema.load(file).clusters[0]) as again:
        checks = load_suites().select(name="users.directory")
        assert outcomes(run_checks(checks, again, print))["users.directory"].startswith("passed")
        live.run("compute-02", "systemctl stop sssd", user="root")
        assert outcomes(run_checks(checks, again, print))["users.directory"].startswith("failed")
        live.run("compute-02", "systemctl start sssd", user="root")


def test_a_directory_that_is_away_holds_nothing_up(
    live: Live, cluster: Cluster, file: Path, key: Path
) -> None:
    live.run("controller", "systemctl kill --signal=STOP lab-slapd", user="root")
    try:
        begun = time.monotonic()
        job = login(cluster, key, "carol", "controller", "srun -t 2 -N2 id -un")
        assert (job.returncode, job.stdout) == (0, "carol\ncarol\n"), job.stderr
        live.run("controller", "srun -t 2 true", user="hpc", timeout=120)
        assert time.monotonic() - begun < 120
        begun = time.monotonic()
        live.run("compute-01", "getent passwd nobodyatall", user="root", check=False)
        assert time.monotonic() - begun < 30
        done = pyinfra(file, "--json", "-y")
        assert (done.returncode, results(done.stdout)) == (0, {})
    finally:
        live.run("controller", "systemctl kill --signal=CONT lab-slapd", user="root")


def test_without_the_key_nothing_is_left_but_homes(live: Live, file: Path) -> None:
    text = file.read_text()
    file.write_text(text[: text.index("    directory:\n")])
    try:
        deploy(file)
        left = live.run_each({node.name: TRACES for node in live.nodes}, user="root", check=False)
        assert {name: answer.stdout for name, answer in left.items()} == dict.fromkeys(left, "0\n")
        assert live.run("controller", "stat -c %u /home/carol", user="root").stdout == "7010\n"
    finally:
        file.write_text(text)
