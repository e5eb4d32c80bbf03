"""What has to be in force on a node, and what becomes of what is otherwise."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths, programs, schema
from hpcstate.node import base_files
from hpcstate.node.drift import Drift, ToBeInForce, drifts, to_be_in_force
from hpcstate.probe.in_force import HostInForce, PasswdEntry, PathState, UnitState

CLUSTER = schema.load(paths.ROOT / "tests" / "lab" / "cluster.yaml").clusters[0]
NODE = CLUSTER.workers[0]
WANTED = to_be_in_force(CLUSTER, NODE)
Change = Callable[[Any], object]
"""What somebody did to a host (a HostInForce)."""

ACCOUNT = Path(base_files.__file__).with_name("account.sh")


def as_wanted(wanted: ToBeInForce = WANTED) -> HostInForce:
    """A host that has all of ``wanted`` in force."""
    return HostInForce(
        host=wanted.host,
        named=wanted.host,
        accounts={
            account.name: PasswdEntry(
                uid=account.uid or 103,
                gid=account.uid or 103,
                home=account.home or "/nonexistent",
                shell=account.shell,
            )
            for account in wanted.accounts
        },
        places={
            place.path: PathState(
                mode=place.mode, owner=place.owner, kind="directory" if place.folder else "regular file"
            )
            for place in wanted.places
        },
        kernel=dict(wanted.kernel),
        units={
            name: UnitState(
                load="loaded",
                reload=False,
                fragment=f"/usr/lib/systemd/system/{name}.service",
                drop_ins=[base_files.drop_in(name)] if name in base_files.RESTARTING else [],
            )
            for name in wanted.units
        },
        rules_loaded="a" * 64,
        rules_file="a" * 64,
        sources=[wanted.time_source] if wanted.time_source else [],
        beside=sorted(wanted.known),
        sets=[base_files.SYSCTL],
    )


def found(change: Change) -> list[Drift]:
    """The drifts after ``change`` on a host that had none."""
    host = copy.deepcopy(as_wanted())
    change(host)
    return drifts(WANTED, host)


def test_every_node_of_a_sound_cluster_has_no_drift() -> None:
    for node in CLUSTER.nodes:
        wanted = to_be_in_force(CLUSTER, node)
        assert drifts(wanted, as_wanted(wanted)) == []


def test_a_login_node_needs_no_daemon_of_slurm() -> None:
    login = replace(CLUSTER.workers[0], name="login-01", role="login", simulated_gpus=None)
    wanted = to_be_in_force(replace(CLUSTER, nodes=(*CLUSTER.nodes, login)), login)
    assert wanted.units == ("ssh", "nftables", "chrony", "munge")
    assert wanted.time_source == str(CLUSTER.controller.address)
    assert not {"/var/lib/slurm/slurmd", "/var/lib/slurm/slurmctld"} & {each.path for each in wanted.places}
    assert drifts(wanted, as_wanted(wanted)) == []


def test_a_node_of_another_cluster_is_not_asked_for_slurm() -> None:
    file = paths.ROOT / "inventories" / "full-stack.yaml"
    cloud = schema.load(file).cluster("cloud")
    assert cloud is not None
    wanted = to_be_in_force(cloud, cloud.workers[0])
    assert "slurm" not in f"{wanted.question}" and "munge" not in f"{wanted.units}{wanted.accounts}"
    assert drifts(wanted, as_wanted(wanted)) == []


def change_place(path: str, **fields: str) -> Change:
    return lambda host: host["places"][path].update(fields)


MENDED: dict[str, tuple[Change, str, str]] = {
    "another name": (lambda h: h.update(host="vm"), "hostname", "hostname compute-01"),
    "another name at the next boot": (
        lambda h: h.update(named="vm"),
        "hostname",
        "replace_file /etc/hostname",
    ),
    "a deleted user": (
        lambda h: h["accounts"].pop("hpc"),
        "account.deleted",
        "set -- hpc 2000 /home/hpc /home/hpc /bin/bash",
    ),
    "a deleted daemon's account": (
        lambda h: h["accounts"].pop("munge"),
        "account.deleted",
        "set -- munge '' /etc/munge /nonexistent /usr/sbin/nologin",
    ),
    "another shell": (
        lambda h: h["accounts"]["slurm"].update(shell="/bin/bash"),
        "account.login",
        "usermod --shell /usr/sbin/nologin slurm",
    ),
    "another home": (
        lambda h: h["accounts"]["hpc"].update(home="/"),
        "account.login",
        "usermod --home /home/hpc hpc",
    ),
    "the folder of Slurm is open": (
        change_place("/etc/slurm", mode="777"),
        "place",
        "chown root:root /etc/slurm && chmod 755 /etc/slurm",
    ),
    "slurm.conf belongs to somebody": (
        change_place("/etc/slurm/slurm.conf", owner="hpc:hpc"),
        "place",
        "chown root:root /etc/slurm/slurm.conf",
    ),
    "gres.conf is closed": (change_place("/etc/slurm/gres.conf", mode="600"), "place", "chmod 644"),
    "the folder of munge is open": (
        change_place("/etc/munge", mode="755"),
        "place",
        "chown munge:munge /etc/munge && chmod 700 /etc/munge",
    ),
    "a folder is gone": (
        lambda h: h["places"].pop("/var/log/slurm"),
        "place",
        "install --directory --mode=755 --owner=slurm --group=slurm /var/log/slurm",
    ),
    "no user namespaces": (
        lambda h: h["kernel"].update({"user.max_user_namespaces": "0"}),
        "kernel",
        "sysctl --quiet --write user.max_user_namespaces=15000",
    ),
    "a masked unit": (
        lambda h: h["units"]["munge"].update(load="masked", fragment="/etc/systemd/system/munge.service"),
        "unit.masked",
        "systemctl unmask --quiet munge.service",
    ),
    "a reload is due": (
        lambda h: h["units"]["slurmd"].update(reload=True),
        "unit.reload",
        "systemctl daemon-reload",
    ),
    "no rules": (lambda h: h.update(rules_loaded=""), "rules", "nft --file /etc/nftables.conf"),
    "other rules": (lambda h: h.update(rules_loaded="b" * 64), "rules", "nft --file /etc/nftables.conf"),
    "another clock": (lambda h: h.update(sources=["203.0.113.7"]), "time", "systemctl restart chrony"),
}

NAMED: dict[str, tuple[Change, str, str]] = {
    "another number": (
        lambda h: h["accounts"]["slurm"].update(uid=999),
        "account.uid",
        "usermod --uid 64030 slurm",
    ),
    "a drop-in": (
        lambda h: h["units"]["slurmd"]["drop_ins"].append("/run/systemd/system/slurmd.service.d/x.conf"),
        "unit.drop-in",
        "/run/systemd/system/slurmd.service.d/x.conf",
    ),
    "another unit file": (
        lambda h: h["units"]["chrony"].update(fragment="/etc/systemd/system/chrony.service"),
        "unit.file",
        "/etc/systemd/system/chrony.service",
    ),
    "a file beside sshd's": (
        lambda h: h["beside"].append("/etc/ssh/sshd_config.d/01-x.conf"),
        "beside",
        "01-x.conf is not hpcstate's; sshd takes the first value",
    ),
    "a file of Slurm's": (
        lambda h: h["beside"].append("/etc/slurm/topology.conf"),
        "beside",
        "topology.conf is not hpcstate's; Slurm reads",
    ),
    "options of slurmd": (
        lambda h: h["sets"].append("/etc/default/slurmd"),
        "options",
        "/etc/default/slurmd",
    ),
    "a later sysctl": (
        lambda h: h["sets"].append("/etc/sysctl.d/99-hard.conf"),
        "kernel.later",
        "/etc/sysctl.d/99-hard.conf",
    ),
}


@pytest.mark.parametrize(("change", "key", "mend"), MENDED.values(), ids=MENDED)
def test_a_drift_that_a_command_mends(change: Change, key: str, mend: str) -> None:
    (drift,) = found(change)
    assert (drift.key, mend in drift.mend) == (key, True), drift


@pytest.mark.parametrize(("change", "key", "said"), NAMED.values(), ids=NAMED)
def test_a_drift_that_is_named(change: Change, key: str, said: str) -> None:
    (drift,) = found(change)
    assert (drift.key, drift.mend, said in drift.text) == (key, "", True), drift


SOUND: dict[str, Change] = {
    "a key that the kernel lacks": lambda h: h["kernel"].clear(),
    "Slurm's files before the first deploy": lambda h: h["places"].pop("/etc/slurm/slurm.conf"),
    "a GPU that is missing, which operations.gpu makes": lambda h: h["places"].pop("/dev/nvidia0"),
    "a folder in the place of a GPU": change_place("/dev/nvidia0", mode="755", kind="directory"),
    "a file that nft cannot load here": lambda h: h.update(rules_file=""),
    "chronyd does not run, which operations.services sees": lambda h: h.update(sources=None),
    "another source beside the controller": lambda h: (h["sources"] or []).append("203.0.113.7"),
    "a sysctl that ours overrules": lambda h: h["sets"].append("/etc/sysctl.d/10-x.conf"),
    "a package's drop-in": lambda h: h["units"]["ssh"]["drop_ins"].append("/usr/lib/systemd/system/a.conf"),
    "a unit that is not there": lambda h: h["units"].pop("ssh"),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_what_is_no_drift(change: Change) -> None:
    assert found(change) == []


def test_accounts_are_mended_before_what_they_own() -> None:
    def change(host: HostInForce) -> None:
        host["accounts"].pop("munge")
        host["places"]["/etc/munge"]["owner"] = "UNKNOWN:UNKNOWN"

    assert [drift.key for drift in found(change)] == ["account.deleted", "place"]


@pytest.mark.parametrize("line", ["user.max_user_namespaces=0", " -user/max_user_namespaces = 0"])
def test_lines_that_set_are_found(line: str, tmp_path: Path) -> None:
    pattern = str(WANTED.question["sets"])
    for text, code in ((line, 0), ('SLURMD_OPTIONS="-f x"', 0), ('#SLURMD_OPTIONS=""', 1), ('OPTIONS=""', 1)):
        done = subprocess.run(["grep", "-qE", pattern], input=text, text=True, check=False)
        assert done.returncode == code, text


def account(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """account.sh with stand-ins for what changes a host; they write what they are called with."""
    for name in ("getent", "groupadd", "useradd"):
        code = 2 if name == "getent" else 0
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/calls"\nexit {code}\n')
        stand_in.chmod(0o755)
    text = programs.command(ACCOUNT, arguments=words)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)


def test_a_deleted_account_gets_the_number_that_its_files_have(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()
    os.chown(folder, 103, 103) if os.geteuid() == 0 else None
    uid = str(folder.stat().st_uid)
    assert account(tmp_path, "munge", "", str(folder), "/nonexistent", "/usr/sbin/nologin").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[1] == f"groupadd --gid {uid} munge"
    assert calls[2].startswith(f"useradd --system --uid {uid} --gid munge --home-dir /nonexistent")


def test_an_account_without_a_number_is_not_guessed(tmp_path: Path) -> None:
    done = account(tmp_path, "munge", "", str(tmp_path / "none"), "/", "/bin/sh")
    assert done.returncode == 1
    assert "the number of munge is not known" in done.stderr
    assert not (tmp_path / "calls").exists()


def test_what_has_quotes_stays_one_word() -> None:
    (drift,) = found(lambda h: h["accounts"]["hpc"].update(shell="/bin/it's"))
    assert shlex.split(drift.mend) == ["usermod", "--shell", "/bin/bash", "hpc"]
