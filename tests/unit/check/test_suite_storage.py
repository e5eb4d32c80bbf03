"""The suite storage on answers of nodes: what it says of homes and of the folders of a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from hpcstate.check.runner import load_suites, run_check
from hpcstate.check.suite import CheckResult
from hpcstate.model import Cluster, Mount, User
from hpcstate.run import Result
from tests.suites.storage.test_job_tmp import Folder, wrongs
from tests.unit.fake_live import TWO, FakeLive, failing

SUITES = load_suites()
NODES = ["compute-01", "compute-02"]
SHARED = replace(TWO, home="nfs")
SOURCE = "192.168.150.10:/home"
OPTIONS = "rw,nosuid,nodev,relatime,rw,vers=4.2,hard,softreval"
MOUNTED = f"mount autofs systemd-1 rw\nmount nfs4 {SOURCE} {OPTIONS}\n"
SERVED = (
    "mount ext4 /dev/vdc rw\nversions -3 +4 -4.0 -4.1 +4.2\n"
    "export /home 192.168.150.11\nexport /home 192.168.150.12\n"
)


class Answers:
    """Nodes on which all is well, but for what ``changes`` say of the last one."""

    def __init__(self, **changes: str) -> None:
        self.changes: Mapping[str, str] = changes
        self.mark = ""

    def __call__(self, node: str, script: str) -> Result | str:
        last = node == NODES[-1]
        if script.startswith("files="):
            own = SERVED if node == "controller" else MOUNTED
            return self.changes.get(node, self.changes.get("mounts", own) if last else own)
        if script.startswith("mkdir"):
            self.mark = script.split("echo ")[1].split()[0]
        if "cat /home/hpc" in script:
            said = self.changes.get("said") if last else None
            if said is None:
                return self.mark
            return said or failing(124, "")
        if script.endswith("&& ls"):
            return f"mark compute-01 {self.changes.get('listed', 'compute-02')}\n"
        if " touch " in script:
            said = self.changes.get("touched", "touch: cannot touch '/home/x': Permission denied")
            return failing(1, said) if said else ""
        return ""


def checked(name: str, answers: Answers) -> CheckResult:
    return run_check(SUITES.select(name=name)[0], FakeLive(answers, SHARED))


def test_homes_that_are_one() -> None:
    result = checked("storage.homes", Answers())
    assert result.outcome == "passed", result
    assert SOURCE in result.observed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"said": ""}, "compute-02 reads nothing in 30 s"),
        ({"said": "cat: /home/hpc/x: No such file or directory"}, "No such file or directory"),
        ({"listed": ""}, "compute-02 writes what the controller does not see"),
        ({"mounts": ""}, "compute-02 has a disk of its own there"),
        ({"mounts": MOUNTED.replace(".10:", ".9:")}, "compute-02 has systemd-1, 192.168.150.9:/home there"),
        ({"mounts": MOUNTED.replace("hard", "soft")}, "compute-02 has it without hard"),
    ],
)
def test_homes_that_are_not(changes: dict[str, str], said: str) -> None:
    result = checked("storage.homes", Answers(**changes))
    assert result.outcome == "failed"
    assert said in result.observed and "compute-01" not in result.observed


def test_homes_for_the_nodes_alone() -> None:
    assert checked("storage.served", Answers()).outcome == "passed"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controller": SERVED + "export /home *\n"}, "exported to 192.168.150.11, 192.168.150.12, *"),
        ({"controller": ""}, "exported to nobody"),
        ({"controller": SERVED.replace("-3", "+3")}, "NFS +3"),
        ({"touched": ""}, "root of compute-01 writes to /home"),
    ],
)
def test_homes_for_others_too(changes: dict[str, str], said: str) -> None:
    result = checked("storage.served", Answers(**changes))
    assert result.outcome == "failed" and said in result.observed


@pytest.mark.parametrize("name", ["storage.homes", "storage.served"])
def test_homes_of_each_nodes_own_are_skipped(name: str) -> None:
    result = run_check(SUITES.select(name=name)[0], FakeLive(Answers()))
    assert result.outcome == "skipped" and "storage.home: local" in result.reason


@pytest.mark.parametrize(
    ("home", "outcome"), [("/var/lib/hpcstate/admin", "passed"), ("/home/admin", "failed")]
)
def test_the_way_in(home: str, outcome: str) -> None:
    keys = "/var/lib/hpcstate/admin/.ssh/authorized_keys\n"

    def answer(node: str, script: str) -> str:
        return f"{home if node == NODES[-1] else '/var/lib/hpcstate/admin'}\n{keys}"

    result = run_check(SUITES.select(name="storage.way_in")[0], FakeLive(answer, SHARED))
    assert result.outcome == outcome
    assert outcome == "passed" or "compute-02: ['/home/admin']" in result.observed


def tmp(host: str, **changes: str) -> dict[str, str]:
    return {"host": host, "folder": "/tmp", "type": "ext2/ext3", "sees": "no", "tmpdir": "/tmp", **changes}


def shm(host: str, **changes: str) -> dict[str, str]:
    return tmp(host, **{"folder": "/dev/shm", "type": "tmpfs", **changes})


GOOD = [folder(host) for host in NODES for folder in (tmp, shm)]


def test_the_folders_of_a_job() -> None:
    told = "".join(json.dumps(report) + "\n" for report in GOOD)
    for left, outcome in (("", "passed"), ("/var/lib/slurm/tmp/compute-02/7/.7/_tmp/x.job\n", "failed")):

        def answer(node: str, script: str, left: str = left) -> str:
            if script.startswith("srun"):
                return told
            return left if script.startswith("for try") and node == NODES[-1] else ""

        result = run_check(SUITES.select(name="storage.job_tmp")[0], FakeLive(answer, SHARED))
        assert result.outcome == outcome, result
        assert not left or "x.job is left" in result.observed


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        (GOOD, []),
        ([*GOOD[:3], shm("compute-02", sees="yes")], ["compute-02: /dev/shm is the node's"]),
        ([tmp("compute-01", type="tmpfs"), *GOOD[1:]], ["compute-01: /tmp is in memory (tmpfs)"]),
        ([tmp("compute-01", tmpdir="/x"), *GOOD[1:]], ["compute-01: TMPDIR is /x"]),
        (GOOD[1:], ["compute-01: no task told of /tmp"]),
    ],
)
def test_what_is_wrong_with_the_folders_of_a_job(reports: list[dict[str, str]], said: list[str]) -> None:
    assert wrongs([Folder(**report) for report in reports], NODES) == said


# mounts of the cluster file

MOUNTS = (Mount("nfs", "nas:/x", "/data", ""), Mount("virtio_fs", "/h", "/shared", "tag", read_only=True))
HAVING = replace(TWO, nodes=(TWO.nodes[0], *(replace(node, mounts=MOUNTS) for node in TWO.workers)))
ANSWERED = "/data yes\n/shared yes\n"
THERE = (
    "mount /data autofs systemd-1 rw\nmount /data nfs4 nas:/x rw,nosuid,nodev,vers=4.2\n"
    "mount /shared autofs systemd-1 rw\nmount /shared virtiofs tag ro,nosuid,nodev\n"
)


def mounts_checked(said: str = ANSWERED, there: str = THERE, cluster: Cluster = HAVING) -> CheckResult:
    def answer(node: str, script: str) -> str:
        last = node == NODES[-1]
        if "mark=" in script:
            return there if last else THERE
        return said if last else ANSWERED

    return run_check(SUITES.select(name="storage.mounts")[0], FakeLive(answer, cluster))


def test_mounts_that_are_there() -> None:
    result = mounts_checked()
    assert result.outcome == "passed", result
    assert result.observed == "/data from nas:/x, /shared from /h"


@pytest.mark.parametrize(
    ("said", "there", "words"),
    [
        ("/data no\n/shared yes\n", THERE, "compute-02: /data does not answer in"),
        ("/shared yes\n", THERE, "compute-02: /data does not answer in"),
        (ANSWERED, THERE.replace("mount /data nfs4 nas:/x rw,nosuid,nodev,vers=4.2\n", ""), "own disk"),
        (ANSWERED, THERE.replace("nas:/x", "nas:/y"), "/data is mounted from nas:/y (nfs4)"),
        (ANSWERED + "/shared written\n", THERE, "/shared can be written to"),
        (ANSWERED, THERE.replace("tag ro", "tag rw"), "/shared can be written to"),
        (ANSWERED, THERE.replace("nosuid,nodev,vers", "vers"), "/data has it without nosuid"),
    ],
)
def test_mounts_that_are_not(said: str, there: str, words: str) -> None:
    result = mounts_checked(said, there)
    assert result.outcome == "failed" and words in result.observed
    assert "compute-01" not in result.observed


def test_a_cluster_without_mounts_has_none_to_look_at() -> None:
    assert mounts_checked(cluster=TWO).outcome == "skipped"


# the scratch folder of a job

SCRATCH = replace(TWO, home="nfs", scratch="/scratch")


def met(node: str, **changes: object) -> dict[str, object]:
    return {"host": node, "folder": "/scratch/7", "mode": "700 hpc", "seen": 2, "tasks": 2, **changes}


def scratch_checked(last: dict[str, object], swept: str = "active\n") -> CheckResult:
    def answer(node: str, script: str) -> str:
        if script.startswith("srun"):
            return "".join(json.dumps(report) + "\n" for report in (met("compute-01"), last))
        return swept if script.startswith("systemctl is-active") else ""

    return run_check(SUITES.select(name="storage.job_scratch")[0], FakeLive(answer, SCRATCH))


def test_the_scratch_folder_of_a_job() -> None:
    result = scratch_checked(met("compute-02"))
    assert result.outcome == "passed", result
    assert result.observed == "7 below /scratch on compute-01, compute-02: gone"
    skipped = run_check(SUITES.select(name="storage.job_scratch")[0], FakeLive(Answers(), SHARED))
    assert skipped.outcome == "skipped"


@pytest.mark.parametrize(
    ("changes", "swept", "words"),
    [
        ({"folder": ""}, "active\n", "compute-02: SCRATCH is not set"),
        ({"folder": "/tmp/7"}, "active\n", "compute-02: SCRATCH is /tmp/7"),
        ({"mode": "755 hpc"}, "active\n", "compute-02: /scratch/7 is 755 hpc"),
        ({"seen": 1}, "active\n", "compute-02: sees 1 of 2 files"),
        ({"host": "compute-03"}, "active\n", "compute-02: no task told of it"),
        ({}, "inactive\n", "hpcstate-scratch.timer is inactive"),
        ({}, "active\nleft 4000000000\n", "/srv/hpcstate/scratch/4000000000 is left"),
    ],
)
def test_what_is_wrong_with_the_scratch_folder(changes: dict[str, object], swept: str, words: str) -> None:
    result = scratch_checked(met("compute-02", **changes), swept)
    assert result.outcome == "failed" and words in result.observed


# quotas

LIMITED = replace(SHARED, home_quota_gb=2, users=(User("alice", 2001), User("bob", 2002, home_quota_gb=0)))
QUOTAS = "feature yes\nprograms\non\nrow #2000,ok,ok,20,0,0,,2,0,0,\nrow #2001,ok,ok,4,0,2097152,,1,0,0,\n"
REFUSED = "dd: error writing '/home/hpc/x': Disk quota exceeded\n"


def quotas_checked(found: str = QUOTAS, said: str = REFUSED, cluster: Cluster = LIMITED) -> CheckResult:
    def answer(node: str, script: str) -> str:
        return found if "record=" in script else said if "dd if" in script else ""

    return run_check(SUITES.select(name="storage.quotas")[0], FakeLive(answer, cluster))


def test_quotas_that_hold() -> None:
    assert LIMITED.home_quotas == {2001: 2}
    assert quotas_checked().outcome == "passed"
    assert quotas_checked(cluster=SHARED).outcome == "skipped"


@pytest.mark.parametrize(
    ("found", "said", "words"),
    [
        (QUOTAS.replace("yes", "no"), REFUSED, "made without"),
        (QUOTAS.replace("programs\n", ""), REFUSED, "not installed"),
        (QUOTAS.replace("on\nrow", "row"), REFUSED, "they do not hold"),
        (QUOTAS.replace("2097152", "0"), REFUSED, "user 2001 has 0 KiB instead of 2097152"),
        (QUOTAS, "8388608 bytes copied\n", "compute-01 more was written than allowed: 8388608"),
    ],
)
def test_quotas_that_do_not(found: str, said: str, words: str) -> None:
    result = quotas_checked(found, said)
    assert result.outcome == "failed" and words in result.observed


def test_homes_in_a_folder_of_the_hypervisor() -> None:
    folder = replace(TWO, home="virtio_fs", home_path="/data/home")
    mounted = "mount autofs systemd-1 rw\nmount virtiofs hpcstate-home rw,nosuid,nodev\n"
    for last, outcome in ((mounted, "passed"), (MOUNTED, "failed")):
        answers = Answers(mounts=last, **{"compute-01": mounted})
        result = run_check(SUITES.select(name="storage.homes")[0], FakeLive(answers, folder))
        assert result.outcome == outcome, result
    result = run_check(SUITES.select(name="storage.served")[0], FakeLive(Answers(), folder))
    assert result.outcome == "skipped"
