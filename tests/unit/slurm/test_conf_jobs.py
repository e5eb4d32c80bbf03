"""slurm.conf for jobs: priorities, what is left of them, mail; what the file says of nodes and partitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.model import Cluster
from hpcstate.node.base_files import LOGROTATE, cluster_files
from hpcstate.slurm.conf import JOB_SUBMIT, STATE, configuration, job_record, keeps_record, slurm_conf
from hpcstate.slurm.impact import Level, impact
from hpcstate.slurm.lint.conf import lint
from hpcstate.slurm.read import Whole, statements
from tests.unit.slurm_clusters import cluster, node

DATABASE = {"AccountingStorageType": "accounting_storage/slurmdbd"}


def conf(parameters: dict[str, str] | None = None) -> Whole:
    """slurm.conf of a small cluster without a slurmdbd of its own, as Slurm reads it."""
    text = slurm_conf(cluster(node(1, gpus=1), node(2), parameters=parameters, accounting=False))
    return Whole.of(list(statements(text, "slurm")))


def lines(of: Cluster, begins: str) -> list[str]:
    """The lines of its slurm.conf that begin so."""
    return [line for line in slurm_conf(of).splitlines() if line.startswith(f"{begins}=")]


def with_partition(**changes: object) -> Cluster:
    """A cluster whose partition has these fields."""
    lab = cluster(node(1))
    assert lab.slurm is not None
    partition = replace(lab.slurm.partitions[0], **changes)  # type: ignore[arg-type]
    return replace(lab, slurm=replace(lab.slurm, partitions=(partition,)))


def test_weights_without_a_database_are_those_that_slurm_takes() -> None:
    found = conf()
    assert found.value("PriorityWeightPartition") == "10000"
    for key in ("PriorityWeightAge", "PriorityWeightFairshare", "PriorityWeightQOS"):
        assert not found.value(key)
        assert conf(DATABASE).value(key) != ""
        assert lines(cluster(node(1)), key), "the cluster's own slurmdbd"


def test_the_jobs_of_an_hour_are_remembered_and_fit() -> None:
    found = conf()
    assert (found.value("MinJobAge"), found.value("MaxJobCount")) == ("3600", "40000")


@pytest.mark.parametrize(
    ("parameters", "kind", "file"),
    [
        ({}, "jobcomp/filetxt", f"{STATE}/jobcomp.log"),
        ({"StateSaveLocation": "/srv/state"}, "jobcomp/filetxt", "/srv/state/jobcomp.log"),
        (DATABASE, "jobcomp/filetxt", f"{STATE}/jobcomp.log"),
        ({"JobCompLoc": "/srv/jobs"}, "jobcomp/filetxt", "/srv/jobs"),
        ({"JobCompType": "jobcomp/filetxt"}, "jobcomp/filetxt", f"{STATE}/jobcomp.log"),
        ({"jobcomptype": "jobcomp/none"}, "jobcomp/none", ""),
        ({"JobCompType": "jobcomp/mysql", "JobCompLoc": "jobs"}, "jobcomp/mysql", "jobs"),
    ],
)
def test_the_record_of_jobs(parameters: dict[str, str], kind: str, file: str) -> None:
    found = conf(parameters)
    assert (found.value("JobCompType"), found.value("JobCompLoc")) == (kind, file)
    lab = cluster(node(1), parameters=parameters, accounting=False)
    assert keeps_record(lab) == (kind == "jobcomp/filetxt")
    rotation = cluster_files(lab, lab.controller)[LOGROTATE]
    assert job_record(lab) == (file if file.startswith("/") else f"{STATE}/jobcomp.log")
    assert rotation.splitlines()[2] == f"{job_record(lab)} {{"
    assert LOGROTATE not in cluster_files(lab, lab.workers[0])


def test_the_rotation_is_done_by_the_user_of_slurmctld() -> None:
    lab = cluster(node(1), parameters={"SlurmUser": "daemon"})
    assert "    su daemon daemon\n" in cluster_files(lab, lab.controller)[LOGROTATE]


@pytest.mark.parametrize(
    ("parameters", "plugin"),
    [
        ({}, "lua"),
        ({"MailProg": "/usr/bin/mail"}, ""),
        ({"JobSubmitPlugins": "require_timelimit"}, "require_timelimit"),
        ({"jobsubmitplugins": "lua"}, "lua"),
    ],
)
def test_who_asks_for_mail_is_told_unless_the_file_says_otherwise(
    parameters: dict[str, str], plugin: str
) -> None:
    assert conf(parameters).value("JobSubmitPlugins") == plugin
    lab = cluster(node(1), parameters=parameters)
    assert (JOB_SUBMIT in cluster_files(lab, lab.controller)) == (not parameters)
    assert JOB_SUBMIT not in cluster_files(lab, lab.workers[0])


def test_a_cluster_without_slurm_has_no_such_files() -> None:
    cloud = replace(cluster(node(1)), kind="cloud", slurm=None)
    assert not {LOGROTATE, JOB_SUBMIT} & cluster_files(cloud, cloud.controller).keys()


def test_what_the_file_says_of_a_node_is_on_its_line() -> None:
    plain = node(1, gpus=1)
    said = replace(plain, features=("rack1",), weight=10, extra_slurm={"MemSpecLimit": "512"})
    (line,) = lines(cluster(said), "NodeName")
    assert line.endswith(
        " Gres=gpu:simulated:1 Feature=gpu,simulated,rack1 Weight=10 MemSpecLimit=512 State=UNKNOWN"
    )
    assert "Weight" not in lines(cluster(plain), "NodeName")[0]
    assert len(lines(cluster(plain, replace(node(2, gpus=1), weight=2)), "NodeName")) == 2


def test_what_the_file_says_of_a_partition_is_on_its_line() -> None:
    found = with_partition(default_time="1:00:00", state="DRAIN", options={"PriorityTier": "5"})
    assert lines(found, "PartitionName") == [
        "PartitionName=main Nodes=compute-01 Default=YES MaxTime=INFINITE DefaultTime=1:00:00 State=DRAIN "
        "PriorityTier=5"
    ]


def test_all_of_it_is_sound() -> None:
    for parameters in ({}, DATABASE):
        text = slurm_conf(cluster(node(1, gpus=1), parameters=parameters))
        assert lint(text, "slurm") == ()


def test_none_of_it_touches_what_runs() -> None:
    """Each is new in a file that was there before, is changed and goes again: no restart and no drain."""
    before = cluster(node(1))
    after = with_partition(options={"PriorityTier": "5", "QOS": "x"}, default_time="30", state="DRAIN")
    after = replace(
        after,
        nodes=(
            after.nodes[0],
            replace(after.nodes[1], features=("x",), weight=3, extra_slurm={"TmpDisk": "1"}),
        ),
    )
    old, new = slurm_conf(before), slurm_conf(after)
    plain = "".join(
        line
        for line in old.splitlines(keepends=True)
        if not line.startswith(("Priority", "MinJobAge", "MaxJobCount", "JobComp", "JobSubmit", "Enforce"))
    )
    for one, other in ((old, new), (new, old), (plain, old), (old, plain)):
        found = impact(one, other, "slurm.conf")
        assert found.changes
        assert (found.slurmctld, found.slurmd("compute-01")) == (Level.RECONFIGURE, Level.RECONFIGURE)
    assert "job_submit.lua" not in configuration(before)
