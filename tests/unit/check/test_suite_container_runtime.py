"""The verdicts of the suite container-runtime, on reports of a sound node and on wrong ones."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths
from hpcstate.model import ContainerSettings
from hpcstate.node import apptainer_files
from hpcstate.probe import apptainer
from tests.suites.inside import Inside

installation = importlib.import_module("tests.suites.container_runtime.test_installation")
isolation = importlib.import_module("tests.suites.container_runtime.test_isolation")
entering = importlib.import_module("tests.suites.container_runtime.test_entering")

SHARED = {"ipc": "[3]", "net": "[4]", "pid": "[5]", "uts": "[6]", "cgroup": "[7]"}
SOUND = Inside(
    host="compute-01",
    container="mpi-minimal.sif",
    user=2000,
    capabilities=dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), "0000000000000000"),
    no_new_privileges="1",
    uid_map=["2000", "2000", "1"],
    setuid_inside="2000",
    setuid_outside="0",
    namespaces={"mnt": "[11]", "user": "[12]", **SHARED},
    outside={"mnt": "[1]", "user": "[2]", **SHARED},
    mounts={
        "/": "ro,nodev",
        "/dev": "rw,nosuid",
        "/dev/shm": "rw,nosuid",
        "/etc/hosts": "rw,nosuid",
        "/sys/fs/cgroup": "rw,nosuid",
        "/home/hpc": "rw,nosuid",
        "/var/lib/slurm/slurmd/pmix.7.0": "rw,nosuid",
    },
    secrets=dict.fromkeys(("/etc/shadow", "/root"), "EACCES"),
    host_is_there=True,
)
FACT = apptainer.parse(
    "\n".join(
        [
            "version 1.4.5-2",
            *(f"program {name}" for name in apptainer.PROGRAMS),
            "sysctl user/max_user_namespaces 7843",
            "fuse 666",
            "subuid admin:100000:65536",
            "subuid hpc:131072000:65536",
            "subgid hpc:131072000:65536",
        ]
    )
)


def test_a_sound_node_has_no_findings() -> None:
    assert isolation.privilege_findings(SOUND) == []
    assert isolation.host_findings(SOUND) == []
    assert isolation.own_namespaces(SOUND) == isolation.OWN_NAMESPACES
    assert installation.installation_findings("n", FACT) == []
    assert installation.user_findings("n", FACT) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"capabilities": {"Bnd": "000001ffffffffff"}}, "CapBnd is 000001ffffffffff"),
        ({"uid_map": ["0", "0", "4294967295"]}, "the users 0 0 4294967295 are mapped"),
        ({"no_new_privileges": "0"}, "NoNewPrivs is 0"),
        ({"setuid_inside": "0"}, "a setuid program of root's runs as 0"),
        ({"setuid_outside": "2000"}, "proves nothing"),
    ],
)
def test_every_right_gained_is_found(change: dict[str, Any], finding: str) -> None:
    (only,) = isolation.privilege_findings(replace(SOUND, **change))
    assert finding in only


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"mounts": {**SOUND.mounts, "/var": "rw,nosuid"}}, "/var is mounted"),
        ({"mounts": {**SOUND.mounts, "/home/eve": "rw,nosuid"}}, "/home/eve is mounted"),
        ({"mounts": {**SOUND.mounts, "/tmp": "rw"}}, "/tmp is mounted without nosuid"),
        ({"secrets": {"/etc/shadow": "OK"}}, "/etc/shadow: OK"),
        ({"secrets": {"/etc/shadow": "ENOENT"}}, "/etc/shadow: ENOENT"),
        ({"host_is_there": False}, "proves nothing"),
    ],
)
def test_everything_of_the_host_is_found(change: dict[str, Any], finding: str) -> None:
    (only,) = isolation.host_findings(replace(SOUND, **change))
    assert finding in only


def test_a_task_outside_of_any_container_has_no_namespace_of_its_own() -> None:
    assert isolation.own_namespaces(replace(SOUND, namespaces=SOUND.outside)) == set()
    more = {**SOUND.namespaces, "pid": "[15]"}
    assert isolation.own_namespaces(replace(SOUND, namespaces=more)) == {"mnt", "user", "pid"}


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"version": ""}, "no Apptainer"),
        ({"version": "1.1.9-1"}, "n has 1.1.9-1"),
        ({"programs": list(apptainer.PROGRAMS[1:])}, f"n has no {apptainer.PROGRAMS[0]}"),
        ({"setuid": ["/usr/libexec/apptainer/bin/starter-suid"]}, "runs as root"),
    ],
)
def test_an_installation_that_lacks_something_is_found(change: dict[str, Any], finding: str) -> None:
    (only,) = installation.installation_findings("n", {**FACT, **change})
    assert finding in only


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"user_namespaces": False}, "no user namespaces"),
        ({"fuse_mode": "600"}, "/dev/fuse has the mode 600"),
        ({"fuse_mode": ""}, "it is not there"),
        ({"subuid": FACT["subuid"][:1]}, "/etc/subuid gives hpc nothing"),
        ({"subgid": FACT["subgid"] * 2}, "/etc/subgid gives hpc 131072000:65536, 131072000:65536"),
    ],
)
def test_what_a_user_lacks_is_found(change: dict[str, Any], finding: str) -> None:
    (only,) = installation.user_findings("n", {**FACT, **change})
    assert finding in only


def test_files_that_differ_are_found() -> None:
    wanted = apptainer_files.cluster_files(ContainerSettings())
    files = {
        path: {
            "mode": apptainer_files.MODES.get(path, "644"),
            "owner": "root:root",
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "pending": False,
        }
        for path, content in wanted.items()
    }
    assert installation.file_findings("n", files, wanted) == []
    conf, policy, program = apptainer_files.CONF, apptainer_files.POLICY, apptainer_files.CONTAINER_EXEC
    changed = {**files, conf: {**files[conf], "sha256": "0"}, program: {**files[program], "mode": "777"}}
    del changed[policy]
    found = installation.file_findings("n", changed, wanted)
    assert found == [
        f"n: {conf} differs from what is rendered",
        f"n has no {policy}",
        f"n: {program} is 777 root:root",
    ]


def test_what_container_exec_made_of_each_file_is_read() -> None:
    text = "unsigned 2 container-exec: f: its signature is\naltered 255 \nnoise\nsigned 0 \n"
    answers = entering.parse_answers(text)
    assert answers == {
        "unsigned": (2, "container-exec: f: its signature is"),
        "altered": (255, ""),
        "signed": (0, ""),
    }


def test_the_faults_change_what_they_are_to_change() -> None:
    wrapper = apptainer_files.container_exec()
    broken = isolation.without_container(wrapper)
    assert broken != wrapper
    assert "exec apptainer" not in broken
    subprocess.run(["sh", "-n"], input=broken, text=True, check=True)


def test_the_scripts_are_shell() -> None:
    subprocess.run(["sh", "-n"], input=entering.signature_script("/var/tmp/x"), text=True, check=True)
    assert "'" not in entering._REPORT
    environment = {"PATH": os.environ["PATH"], "HPCSTATE_GIVEN": entering.GIVEN, "SLURM_JOB_ID": "7"}
    said = subprocess.check_output(["sh", "-c", entering._REPORT, "sh", "a b", "$x"], env=environment)
    assert json.loads(said)["words"] == "a b $x"


def test_the_program_reports_what_the_checks_read(tmp_path: Path) -> None:
    identity = tmp_path / "id"
    identity.symlink_to("/usr/bin/id")
    program = paths.ROOT / "tests/suites/_inside.py"
    environment = {"HPCSTATE_OUTSIDE": "mnt:[1] pid:[2] pid:[2]", "HPCSTATE_SETUID": "0"}
    said = subprocess.check_output(
        [sys.executable, "-E", "-S", program, identity, "/nowhere"], env={**os.environ, **environment}
    )
    report = Inside(**json.loads(said))
    assert report.outside == {"mnt": "[1]", "pid": "[2]"}
    assert report.setuid_inside == str(os.geteuid())
    assert set(report.secrets.values()) == {"ENOENT"}
    assert not report.host_is_there
    assert "/" in report.mounts
