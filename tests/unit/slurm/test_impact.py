"""What a change of Slurm's configuration asks for, key by key, as the manuals say."""

from __future__ import annotations

import pytest

from hpcstate.slurm.conf import slurm_conf
from hpcstate.slurm.impact import Impact, Level, combine, impact, rule_of, table
from tests.unit.slurm_clusters import cluster, node

NONE, RECONFIGURE, RESTART, DRAIN = Level.NONE, Level.RECONFIGURE, Level.RESTART, Level.DRAIN

CONF = slurm_conf(cluster(node(1, gpus=2), node(2, gpus=2), parameters={"SlurmctldPort": "6817"}))

PARAMETERS = [
    # scontrol(1), reconfigure; slurm.conf(5), DESCRIPTION
    ("SchedulerParameters", RECONFIGURE, RECONFIGURE),
    ("SlurmdTimeout", RECONFIGURE, RECONFIGURE),
    ("MessageTimeout", RECONFIGURE, RECONFIGURE),
    ("MpiDefault", RECONFIGURE, RECONFIGURE),
    ("MpiParams", RECONFIGURE, RECONFIGURE),
    ("TaskPlugin", RECONFIGURE, RECONFIGURE),
    ("DefMemPerCPU", RECONFIGURE, RECONFIGURE),
    ("Prolog", RECONFIGURE, RECONFIGURE),
    ("HealthCheckProgram", RECONFIGURE, RECONFIGURE),
    ("AccountingStorageType", RECONFIGURE, RECONFIGURE),
    ("PriorityType", RECONFIGURE, RECONFIGURE),
    ("SlurmctldLogFile", RECONFIGURE, RECONFIGURE),
    ("ReturnToService", RECONFIGURE, RECONFIGURE),
    # slurm.conf(5), JobAcctGatherType: running steps keep the previous plugin
    ("JobAcctGatherType", RECONFIGURE, RECONFIGURE),
    # listening ports
    ("SlurmctldPort", RESTART, RECONFIGURE),
    ("SlurmdPort", RECONFIGURE, RESTART),
    ("CommunicationParameters", RESTART, RESTART),
    # authentication
    ("AuthInfo", RESTART, RESTART),
    ("AuthType", RESTART, DRAIN),
    ("CredType", RESTART, RESTART),
    # identity and state of the controller
    ("SlurmctldHost", RESTART, RECONFIGURE),
    ("StateSaveLocation", RESTART, DRAIN),
    ("ClusterName", RESTART, DRAIN),
    ("SlurmUser", RESTART, RESTART),
    # what running jobs were given
    ("SelectType", RESTART, DRAIN),
    ("SelectTypeParameters", RESTART, DRAIN),
    ("SwitchType", RESTART, DRAIN),
    ("GresTypes", RESTART, DRAIN),
    ("ProctrackType", RECONFIGURE, DRAIN),
    ("SlurmdSpoolDir", RECONFIGURE, DRAIN),
    # not a key of Slurm 24.11
    ("NoSuchKey", RESTART, RESTART),
]


@pytest.mark.parametrize(("key", "slurmctld", "slurmd"), PARAMETERS, ids=lambda value: str(value))
def test_a_parameter_has_its_class(key: str, slurmctld: Level, slurmd: Level) -> None:
    found = impact(f"{key}=a\n", f"{key.upper()} = b # why\n", "slurm.conf")
    assert (found.slurmctld, found.slurmd("compute-01")) == (slurmctld, slurmd)
    (change,) = found.changes
    assert (change.old, change.new, change.nodes) == ("a", "b", None)
    assert change.source
    for added in (impact("", f"{key}=a\n", "slurm.conf"), impact(f"{key}=a\n", "", "slurm.conf")):
        assert (added.slurmctld, added.slurmd("compute-01")) == (slurmctld, slurmd)


NODE_ATTRIBUTES = [
    ("CPUs=2", "CPUs=4", RECONFIGURE, DRAIN),
    ("Sockets=1", "Sockets=2", RECONFIGURE, DRAIN),
    ("CoresPerSocket=2", "CoresPerSocket=1", RECONFIGURE, DRAIN),
    ("ThreadsPerCore=1", "ThreadsPerCore=2", RECONFIGURE, DRAIN),
    ("Gres=gpu:simulated:2", "Gres=gpu:simulated:1", RECONFIGURE, DRAIN),
    ("Gres=gpu:simulated:2", "", RECONFIGURE, DRAIN),
    ("RealMemory=1751", "RealMemory=1700", RECONFIGURE, RECONFIGURE),
    ("State=UNKNOWN", "State=UNKNOWN Weight=5", RECONFIGURE, RECONFIGURE),
    ("State=UNKNOWN", "State=UNKNOWN Feature=a", RECONFIGURE, RECONFIGURE),
    ("State=UNKNOWN", "State=UNKNOWN Port=7000", RECONFIGURE, RESTART),
    ("NodeAddr=10.0.0.[11-12]", "NodeAddr=10.0.0.[21-22]", RECONFIGURE, RESTART),
]


@pytest.mark.parametrize(("old", "new", "slurmctld", "slurmd"), NODE_ATTRIBUTES)
def test_an_attribute_of_a_node_has_its_class(old: str, new: str, slurmctld: Level, slurmd: Level) -> None:
    found = impact(CONF, CONF.replace(old, new), "slurm.conf")
    assert (found.slurmctld, found.slurmd("compute-01")) == (slurmctld, slurmd)


def test_the_change_of_one_node_only_reconfigures_the_others() -> None:
    split = CONF.replace(
        "NodeName=compute-[01-02] NodeAddr=10.0.0.[11-12] CPUs=2",
        "NodeName=compute-01 NodeAddr=10.0.0.11 CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 "
        "RealMemory=1751 TmpDisk=5120 Gres=gpu:simulated:1 Feature=gpu,simulated State=UNKNOWN\n"
        "NodeName=compute-02 NodeAddr=10.0.0.12 CPUs=2",
    )
    found = impact(CONF, split, "slurm.conf")
    assert [change.key for change in found.changes] == ["NodeName=compute-01 Gres"]
    assert found.slurmd("compute-01") is DRAIN
    assert found.slurmd("compute-02") is RECONFIGURE
    assert found.drained_nodes(["compute-01", "compute-02"]) == ("compute-01",)


def test_a_node_is_added_without_a_restart_and_removed_only_when_drained() -> None:
    more = CONF.replace("compute-[01-02] NodeAddr=10.0.0.[11-12]", "compute-[01-03] NodeAddr=10.0.0.[11-13]")
    added, removed = impact(CONF, more, "slurm.conf"), impact(more, CONF, "slurm.conf")
    assert (added.level, added.why()) == ("reconfigure", "NodeName=compute-03 added")
    assert (removed.level, removed.why()) == ("drain", "NodeName=compute-03 removed")
    assert removed.drained_nodes(["compute-01", "compute-02", "compute-03"]) == ("compute-03",)


def test_a_partition_is_removed_only_when_its_nodes_are_drained() -> None:
    extra = CONF + "PartitionName=night Nodes=compute-02 MaxTime=8:00:00\n"
    assert impact(CONF, extra, "slurm.conf").level == "reconfigure"
    assert impact(extra, extra.replace("8:00", "9:00"), "slurm.conf").level == "reconfigure"
    assert impact(extra, CONF, "slurm.conf").drained_nodes(["compute-01", "compute-02"]) == ("compute-02",)


CGROUP = [
    ("ConstrainRAMSpace", RECONFIGURE),
    ("ConstrainDevices", RECONFIGURE),
    ("ConstrainCores", RECONFIGURE),
    ("AllowedRAMSpace", RECONFIGURE),
    ("SystemdTimeout", RECONFIGURE),
    ("CgroupPlugin", DRAIN),
    ("CgroupMountpoint", DRAIN),
    ("EnableControllers", DRAIN),
    ("IgnoreSystemd", DRAIN),
]


@pytest.mark.parametrize(("key", "slurmd"), CGROUP)
def test_cgroup_conf_concerns_slurmd_alone(key: str, slurmd: Level) -> None:
    found = impact(f"{key}=no\n", f"{key}=yes\n", "cgroup.conf")
    assert (found.slurmctld, found.slurmd("compute-01")) == (NONE, slurmd)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "AutoBasePath=true\nBasePath=/a\n"),
        ("BasePath=/a\n", "BasePath=/b\n"),
        ("BasePath=/a\n", "BasePath=/a Dirs=/tmp\n"),
        ("BasePath=/a InitScript=/x\n", "BasePath=/a\n"),
        ("NodeName=n[1-2] BasePath=/a\n", "NodeName=n1 BasePath=/a\nNodeName=n2 BasePath=/b\n"),
    ],
)
def test_where_jobs_have_their_tmp_changes_without_jobs_only(old: str, new: str) -> None:
    found = impact(old, new, "job_container.conf")
    assert found.slurmctld is NONE and found.level == "drain"


def test_mpi_conf_is_read_again() -> None:
    assert impact("", "PMIxCliTmpDirBase=/tmp\n", "mpi.conf").level == "reconfigure"


GRES = "NodeName=n1 Name=gpu Type=a File=/dev/nvidia0\nNodeName=n1 Name=gpu Type=a File=/dev/nvidia1\n"


@pytest.mark.parametrize(
    "new",
    [
        "",
        GRES.splitlines()[0],
        GRES.replace("Type=a", "Type=b"),
        GRES.replace("nvidia1", "nvidia2"),
        GRES + "NodeName=n1 Name=gpu Type=a File=/dev/nvidia2\n",
        GRES + "AutoDetect=nvml\n",
        GRES + "NodeName=n1 AutoDetect=nvml\n",
    ],
)
def test_any_change_of_the_devices_drains(new: str) -> None:
    found = impact(GRES, new, "gres.conf")
    assert (found.slurmctld, found.slurmd("n1"), found.level) == (NONE, DRAIN, "drain")


def test_cores_of_a_device_restart_slurmctld_too() -> None:
    found = impact(GRES, GRES.replace("nvidia1", "nvidia1 Cores=0"), "gres.conf")
    assert (found.slurmctld, found.slurmd("n1")) == (RESTART, DRAIN)


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [
        ("A=1\nB=2\n", "# a comment\nB=2\n\nA = 1  # why\n", "slurm.conf"),
        ("A=1\n", "a=1\n", "slurm.conf"),
        ("NodeName=n1 \\\n    CPUs=2\n", "NodeName=n1 CPUs=2\n", "slurm.conf"),
        ("NodeName=n[1-2] CPUs=2\n", "NodeName=n2 CPUs=2\nNodeName=n1 CPUs=2\n", "slurm.conf"),
        ("NodeName=DEFAULT CPUs=2\nNodeName=n1\n", "NodeName=n1 CPUs=2\n", "slurm.conf"),
        (
            "NodeName=n[1-2] NodeAddr=10.0.0.[1-2]\n",
            "NodeName=n1 NodeAddr=10.0.0.1\nNodeName=n2 NodeAddr=10.0.0.2\n",
            "slurm.conf",
        ),
        (GRES, "NodeName=n1 Name=gpu Type=a File=/dev/nvidia[0-1]\n", "gres.conf"),
        (GRES, "# simulated\n" + "\n".join(reversed(GRES.splitlines())), "gres.conf"),
    ],
)
def test_what_means_the_same_changes_nothing(old: str, new: str, file: str) -> None:
    found = impact(old, new, file)
    assert (found.changes, found.level) == ((), "none")


def test_values_are_compared_as_they_are_written() -> None:
    assert impact("Prolog=/a\n", "Prolog=/A\n", "slurm.conf").level == "reconfigure"


def test_a_key_given_twice_counts_with_both_values() -> None:
    once, twice = "SlurmctldHost=a\n", "SlurmctldHost=a\nSlurmctldHost=b\n"
    (change,) = impact(once, twice, "slurm.conf").changes
    assert (change.old, change.new) == ("a", "a\nb")


def test_the_level_of_the_whole_names_the_daemons() -> None:
    ports = "SlurmctldPort={}\nSlurmdPort={}\nSchedulerType={}\n"
    for values, level in (
        ((1, 2, 3), "none"),
        ((1, 2, 4), "reconfigure"),
        ((9, 2, 3), "restart slurmctld"),
        ((1, 9, 3), "restart slurmd"),
        ((9, 9, 4), "restart slurmctld and slurmd"),
    ):
        assert impact(ports.format(1, 2, 3), ports.format(*values), "slurm.conf").level == level


def test_the_strongest_change_of_several_files_counts_and_is_named_first() -> None:
    whole = combine(
        [
            impact("SlurmdTimeout=1\n", "SlurmdTimeout=2\n", "slurm.conf"),
            impact("", "CgroupPlugin=autodetect\n", "cgroup.conf"),
        ]
    )
    assert whole.level == "drain"
    assert whole.why("compute-01") == "CgroupPlugin, SlurmdTimeout"
    assert combine([]) == Impact()


def test_every_rule_of_the_table_has_a_class_and_a_source() -> None:
    for (file, record, key), rule in table().items():
        assert rule.source, (file, record, key)
        assert rule.slurmctld <= RESTART, "slurmctld is never drained"
        if file == "slurm.conf":
            assert rule.slurmd >= RECONFIGURE, "slurmd tells slurmctld the hash of its slurm.conf"
            assert rule.slurmctld >= RECONFIGURE


def test_every_parameter_that_we_set_is_in_the_table() -> None:
    unknown = rule_of("slurm.conf", "", "NoSuchKey")
    for change in impact("", CONF, "slurm.conf").changes:
        if " added" not in change.key:
            assert rule_of("slurm.conf", "", change.key) is not unknown, change.key
