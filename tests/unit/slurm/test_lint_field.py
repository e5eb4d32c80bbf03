"""What people brought to the linter (shared/cases, by number): the error and the hint that they need.

Each file is small and after a public report; daemon_cases.py has the daemons judge their kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hpcstate import cli
from hpcstate.slurm.lint.together import lint_files
from tests.unit.slurm.daemon_cases import BASE, NODES, PARTITION

HEAD = "".join(f"{key}={value}\n" for key, value in BASE.items())
WHOLE = HEAD + NODES + PARTITION
GPUS = HEAD + "GresTypes=gpu,shard\n" + PARTITION
NODE = "NodeName=n1 CPUs=16 Sockets=2 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=1000"

Row = tuple[str, str, str]
"""Severity, place, and what message and hint say."""

FIELD: list[tuple[str, Mapping[str, str], list[Row]]] = [
    (
        "02",
        {
            "slurm.conf": GPUS
            + f"{NODE.replace('ThreadsPerCore=1', 'ThreadsPerCore=2').replace('16', '32')} "
            "Gres=gpu:1\n",
            "gres.conf": "Name=gpu File=/dev/nvidia0 CPUs=6-7,22-23\n",
        },
        [
            ("error", "Name=gpu CPUs", "INVALID_REG"),
            ("error", "Name=gpu CPUs", "numbers of cores"),
            ("warning", "Name=gpu CPUs", "with the numbers of cores, not of threads"),
        ],
    ),
    (
        "04",
        {"slurm.conf": WHOLE + "AccountingStorageTRES: gres/gpu\n"},
        [("error", "AccountingStorageTRES:", "write AccountingStorageTRES=, with = in place of :")],
    ),
    (
        "07",
        {"slurm.conf": WHOLE + "TopologyPlugin=topology/flat\n"},
        [("error", "TopologyPlugin", "new in Slurm 25.05")],
    ),
    (
        "11",
        {
            "slurm.conf": HEAD + "Include cloud.conf\n",
            "cloud.conf": "SlurmctldParameters=cloud_reg_addrs\nPrologFlags=X11\n" + NODES + PARTITION,
        },
        [
            ("error", "cloud.conf:2 PrologFlags", "proctrack/linuxproc"),
            ("warning", "cloud.conf:1 SlurmctldParameters", "defunct"),
        ],
    ),
    (
        "14",
        {"slurm.conf": WHOLE + "TopologyPlugin=topology/block\n", "topology.conf": "BlockSizes=-1\n"},
        [("error", "BlockSizes", "slurmctld stops")],
    ),
    (
        "16",
        {
            "slurm.conf": HEAD + NODES + "AccountingStorageTRES=gres/gpu\nGresTypes=gpu\n"
            'PartitionName=p Nodes=ALL TRESBillingWeights="CPU=1.0 Mem=0.127G"\n'
        },
        [
            ("error", "AccountingStorageTRES", "needs a slurmdbd"),
            ("error", "PartitionName=p TRESBillingWeights", "a comma parts them"),
        ],
    ),
    (
        "17",
        {"slurm.conf": WHOLE + "UpTime=0-00:29:17\n"},
        [("error", "UpTime", "slurmd -C prints")],
    ),
    (
        "19",
        {"slurm.conf": WHOLE + "Include=/etc/slurm/partitions.conf\n"},
        [("error", "Include", "without =")],
    ),
    (
        "22",
        {"slurm.conf": WHOLE + "CommunicationParameters=NoAddrCache\nPrologFlags=Contain\n"},
        [("warning", "CommunicationParameters", "defunct"), ("warning", "PrologFlags", "proctrack/cgroup")],
    ),
    (
        "23",
        {"slurm.conf": WHOLE + "PrologFlags=x11,Contain\n"},
        [("error", "PrologFlags", "write ProctrackType=proctrack/cgroup")],
    ),
    (
        "24",
        {
            "slurm.conf": HEAD + "NodeName=n-[10-11]-[01-02] CPUs=2\nNodeName=n-10-01 CPUs=2\n"
            "PartitionName=p Nodes=n-[10-12]-[01-02]\n"
        },
        [
            ("error", "NodeName=n-10-01", "given twice"),
            ("error", "PartitionName=p Nodes", "n-12-01, n-12-02 are in no NodeName line"),
        ],
    ),
    (
        "25",
        {"slurm.conf": HEAD + PARTITION + "NodeName=node-[0-4] Port=[17001-17004] CPUs=2\n"},
        [("error", "NodeName=node-[0-4] Port", "4 ports for 5 nodes")],
    ),
    (
        "26b",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:2,shard:16\n",
            "gres.conf": "NodeName=n1 Name=gpu File=/dev/nvidia[0-1]\n"
            "NodeName=n1 Name=shard Count=8 File=/dev/nvidia[0-1]\n",
        },
        [("error", "NodeName=n1 Gres", "Count is for the whole line")],
    ),
    (
        "26c",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:2,shard:16\n",
            "gres.conf": "NodeName=n1 Name=shard Count=16\n",
        },
        [
            ("error", "NodeName=n1 Gres", "offers 0"),
            ("error", "NodeName=n1 Name", "shard needs gpu with File="),
        ],
    ),
    (
        "27",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:2\n",
            "gres.conf": "NodeName=n1 AutoDetect=nvidia\n"
            "NodeName=n1 AutoDetect=rsmi Name=gpu File=/dev/nvidia[0-1]\n",
        },
        [("error", "NodeName=n1 AutoDetect", "slurmd stops")],
    ),
    (
        "30",
        {
            "slurm.conf": WHOLE + "HealthCheckNodeState=START_ONLY\n"
            "SlurmctldParameters=enable_expedited_requeue\n"
        },
        [
            ("warning", "HealthCheckNodeState", "new in Slurm 25.11"),
            ("warning", "SlurmctldParameters", "new in Slurm 25.11"),
        ],
    ),
    (
        "31",
        {"slurm.conf": WHOLE + "SlurmctldParameters=idle_on_node_suspend,cloud_reg_addrs\n"},
        [("warning", "SlurmctldParameters", "defunct")],
    ),
    (
        "32",
        {
            "slurm.conf": HEAD + NODES + "NamespaceType=namespace/tmpfs\nNodeSet=g Feature=gpu\n"
            "PartitionName=p Nodes=g Topology=ib\n",
            "topology.yaml": "- topology: ib\n",
        },
        [
            ("error", "NamespaceType", "new in Slurm 25.11"),
            ("error", "PartitionName=p Topology", "new in Slurm 25.05"),
            ("warning", "TopologyPlugin", "topology.yaml is new in Slurm 25.05"),
        ],
    ),
    (
        "33",
        {
            "slurm.conf": HEAD + NODES + "PreemptType=preempt/partition_prio\nPreemptMode=SUSPEND,GANG\n"
            "PartitionName=p Nodes=ALL PreemptMode=suspend,gang\n"
        },
        [("warning", "PartitionName=p PreemptMode", "of the whole cluster")],
    ),
    (
        "a node without a line, beside one that has it",
        {
            "slurm.conf": HEAD + PARTITION + "GresTypes=gpu\nNodeName=n[1-2] CPUs=4 Gres=gpu:rtxa5000:1\n",
            "gres.conf": "NodeName=n1 Name=gpu Type=rtxa5000 File=/dev/nvidia0\n",
        },
        [("error", "NodeName=n[1-2] Gres", "write NodeName=n2 Name=gpu Type=rtxa5000 File=/dev/nvidia0, or")],
    ),
    (
        "two types without a line",
        {"slurm.conf": GPUS + f"{NODE} Gres=gpu:a:2,gpu:b:1\n", "gres.conf": ""},
        [
            (
                "error",
                "NodeName=n1 Gres",
                "write Name=gpu Type=a File=/dev/nvidia[0-1] and Name=gpu Type=b File=/dev/nvidia2, or",
            )
        ],
    ),
    (
        "a range that counts down",
        {"slurm.conf": GPUS + f"{NODE} Gres=gpu:2\n", "gres.conf": "Name=gpu File=/dev/nvidia[1-0]\n"},
        [("error", "Name=gpu File", "write /dev/nvidia[0-1]")],
    ),
    (
        "shards on one file twice",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:2,shard:16\n",
            "gres.conf": "Name=gpu File=/dev/nvidia[0-1]\n" + "Name=shard Count=8 File=/dev/nvidia0\n" * 2,
        },
        [("error", "Name=shard File", "/dev/nvidia0 is on a line of shard before")],
    ),
    (
        "no partition is the default",
        {"slurm.conf": HEAD + NODES + "PartitionName=p Nodes=ALL\n"},
        [("warning", "PartitionName=p Default", "write Default=YES")],
    ),
    (
        "the key of auth/slurm",
        {"slurm.conf": WHOLE + "AuthType=auth/slurm\n"},
        [("warning", "AuthType", "needs slurm.key")],
    ),
    (
        "a relative program of the health check",
        {"slurm.conf": WHOLE + "HealthCheckProgram=nhc\n"},
        [("warning", "HealthCheckProgram", "no absolute path")],
    ),
    (
        "keys of former releases",
        {
            "slurm.conf": WHOLE + "SlurmdPlugstack=x\nNodeFeaturesPlugins=node_features/helpers\n",
            "cgroup.conf": "CgroupSubsystems=x\n",
            "helpers.conf": "NodeRebootWeight=5\n",
        },
        [
            ("error", "SlurmdPlugstack", "until 17.02"),
            ("error", "CgroupSubsystems", "until 17.02"),
            ("error", "NodeRebootWeight", "until 22.05"),
        ],
    ),
    (
        "keys and plugins of later releases",
        {
            "slurm.conf": HEAD
            + "NodeName=n1 CPUs=4 Topology=t:s1\nPartitionName=p Nodes=ALL Default=YES Exclusive=NODE\n"
            "HealthCheckTimeout=5\nHttpParserType=http_parser/llhttp_parser\nProgram=/x\n"
            "PowerAction=off Program=/x Location=controller\nTopologyPlugin=topology/torus3d\n",
            "cgroup.conf": "CgroupJobIdPaths=yes\n",
        },
        [
            ("error", "NodeName=n1 Topology", "new in Slurm 25.05"),
            ("error", "PartitionName=p Exclusive", "new in Slurm 26.05"),
            ("error", "HealthCheckTimeout", "new in Slurm 26.05"),
            ("error", "HttpParserType", "new in Slurm 26.05"),
            ("error", "Program", "a key of PowerAction lines in Slurm 26.05"),
            ("error", "PowerAction", "new in Slurm 26.05"),
            ("error", "TopologyPlugin", "new in Slurm 26.05"),
            ("error", "CgroupJobIdPaths", "new in Slurm 26.05"),
        ],
    ),
    (
        "what scontrol prints, pasted",
        {
            "slurm.conf": HEAD + "NodeName=n1 CPUTot=4 AvailableFeatures=a OS=Linux RealMemory=1000\n"
            "PartitionName=p Nodes=ALL TotalNodes=1 JobDefaults=DefMemPerGPU=20480\n"
        },
        [
            ("error", "NodeName=n1 CPUTot", "write CPUs="),
            ("error", "NodeName=n1 AvailableFeatures", "write Features="),
            ("error", "NodeName=n1 OS", "scontrol show node prints it"),
            ("error", "PartitionName=p TotalNodes", "scontrol show partition prints it"),
            ("error", "PartitionName=p JobDefaults", "DefMemPerGPU=29440"),
        ],
    ),
    (
        "a Count with a suffix",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:4\n",
            "gres.conf": "Name=gpu File=/dev/nvidia[0-3] Count=4K\n",
        },
        [("error", "Name=gpu Count", "is 4K, and File names 4")],
    ),
    (
        "words of later releases",
        {
            "slurm.conf": GPUS + f"{NODE} Gres=gpu:1\n"
            "AuthAltParameters=use_jwt_client_ids\nDebugFlags=thread,AuditTLS\nJobCompParams=send_comment\n"
            "SlurmctldParameters=health_check_report\nPriorityFlags=MAX_TRES_GRES\n"
            "AcctGatherProfileType=acct_gather_profile/influxdb\n",
            "gres.conf": "AutoDetect=full\nName=gpu File=/dev/nvidia0 Flags=env_uuid\n",
            "acct_gather.conf": "ProfileInfluxDBHost=h:8086\nProfileInfluxDBDatabase=d\n"
            "ProfileInfluxDBDefault=ALL\nProfileInfluxDBRTPolicy=autogen\nProfileInfluxDBFrequency=30\n",
        },
        [
            ("warning", "AuthAltParameters", "new in Slurm 26.05"),
            ("error", "DebugFlags", '"thread" is new in Slurm 26.05, and 24.11 does not know it'),
            ("error", "DebugFlags", '"AuditTLS" is new in Slurm 25.05, and 24.11 does not know it'),
            ("warning", "JobCompParams", "new in Slurm 26.05"),
            ("warning", "SlurmctldParameters", "new in Slurm 26.05"),
            ("warning", "PriorityFlags", "new in Slurm 25.05"),
            ("warning", "AutoDetect", "new in Slurm 26.05"),
            ("warning", "Name=gpu Flags", "new in Slurm 26.05"),
            ("error", "ProfileInfluxDBFrequency", "new in Slurm 26.05"),
        ],
    ),
    (
        "a later key in its first release",
        {"slurm.conf": WHOLE + "HttpParserType=http_parser/libhttp_parser\n"},
        [("error", "HttpParserType", "new in Slurm 25.11")],
    ),
]


@pytest.mark.parametrize(("files", "rows"), [row[1:] for row in FIELD], ids=[row[0] for row in FIELD])
def test_a_case_of_the_field_has_its_answer(files: Mapping[str, str], rows: list[Row]) -> None:
    found = [problem for some in lint_files(files).values() for problem in some]
    for severity, place, says in rows:
        assert any(
            (problem.severity, problem.place) == (severity, place)
            and says in f"{problem.message} {problem.hint}"
            for problem in found
        ), (severity, place, says, found)
    errors = {problem.place for problem in found if problem.severity == "error"}
    assert errors == {place for severity, place, _ in rows if severity == "error"}


def test_files_beside_a_slurm_conf_are_read_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slurm.conf").write_text(GPUS + f"{NODE} Gres=gpu:4\n")
    (tmp_path / "gres.conf").write_text("Name=gpu File=/dev/nvidia[0-1]\nName=gpu Tipe=a\n")
    assert cli.main(["lint", str(tmp_path / "slurm.conf")]) == cli.FINDINGS
    said = capsys.readouterr().out
    assert "slurm.conf:10: error: NodeName=n1 Gres: promises 4 gpu, and gres.conf offers" in said
    assert "gres.conf:2: error: Name=gpu Tipe: not a key" in said


def test_files_of_two_folders_are_read_together_when_both_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a/slurm.conf").write_text(GPUS + f"{NODE} Gres=gpu:4\n")
    (tmp_path / "b/gres.conf").write_text("Name=gpu File=/dev/nvidia[0-1]\n")
    assert cli.main(["lint", str(tmp_path / "a/slurm.conf")]) == cli.OK
    assert cli.main(["lint", *map(str, tmp_path.rglob("*.conf"))]) == cli.FINDINGS
    assert "promises 4 gpu" in capsys.readouterr().out


@pytest.mark.parametrize("include", ['Include "nodes.conf"', "Include absent.conf"])
def test_a_file_that_slurmctld_waits_for_is_an_error(tmp_path: Path, include: str) -> None:
    (tmp_path / "slurm.conf").write_text(HEAD + f"{include}\n")
    (tmp_path / "nodes.conf").write_text(NODES)
    assert cli.main(["lint", str(tmp_path / "slurm.conf")]) == cli.FINDINGS


def test_a_file_that_is_not_linted_is_declined_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "topology.yaml").write_text("- topology: a\n")
    assert cli.main(["lint", str(tmp_path / "topology.yaml")]) == cli.COULD_NOT_RUN
    assert "new in Slurm 25.05" in capsys.readouterr().err


def test_problems_of_a_file_that_slurm_does_not_read_are_warnings() -> None:
    found = lint_files({"slurm.conf": WHOLE, "topology.conf": "SwitchName=a Foo=1\n"})["topology.conf"]
    assert {problem.severity for problem in found} == {"warning"}
    assert "TopologyPlugin" in found[0].hint


def test_many_problems_that_are_alike_are_told_once_and_errors_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = "".join(f"NodeName=n{number} Procs=4\n" for number in range(1, 6))
    (tmp_path / "slurm.conf").write_text(HEAD + nodes + "PartitionName=p Nodes=x Default=YES\n")
    assert cli.main(["lint", str(tmp_path / "slurm.conf")]) == cli.FINDINGS
    said = capsys.readouterr().out
    assert said.count("Procs: an old name") == 1
    assert (
        "NodeName=n1 Procs: an old name, read only where CPUs is absent (4 more like it, on lines 9-12)"
        in said
    )
    assert said.index(": error: ") < said.index(": warning: ")
    assert "1 error, 5 warnings" in said
    cli.main(["lint", "--json", str(tmp_path / "slurm.conf")])
    assert capsys.readouterr().out.count("an old name") == 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slurm.conf.j2", "ClusterName={{ name }}\n{% for n in nodes %}\nNodeName={{ n }}\n{% endfor %}\n"),
        ("slurm.conf", "ClusterName={{ .Values.name }}\n"),
        ("gres.conf.erb", "Name=gpu File=<%= @file %>\n"),
        ("slurm.conf.template", "ClusterName={name}\nSlurmctldHost={host}\n"),
        ("slurm.conf.in", "ClusterName=@name@\n"),
        ("oci.conf.j2", "RunTimeRun={{ run }}\n"),
    ],
)
def test_a_template_is_one_message(
    tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert cli.main(["lint", str(tmp_path / name)]) == cli.COULD_NOT_RUN
    said = capsys.readouterr()
    assert "this is a template" in said.err
    assert not said.out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slurm.conf.j2", "# {{ ansible_managed }}\n" + WHOLE),
        ("slurm.conf", WHOLE + "# SlurmctldHost={{ host }}\n"),
        ("slurm.conf.in", WHOLE + "# SlurmctldHost=@host@\n"),
        ("oci.conf", 'RunTimeQuery="docker inspect --format={{.State}} %j"\nRunTimeRun="crun"\n'),
    ],
)
def test_what_only_looks_like_a_template_is_linted(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert cli.main(["lint", str(tmp_path / name)]) == cli.OK


def test_of_a_fragment_nothing_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = tmp_path / "partition.conf"
    part.write_text("PartitionName=p Nodes=n[1-2] Default=YES\n")
    words = ["lint", "--kind", "slurm", str(part)]
    assert cli.main(words) == cli.FINDINGS
    assert "--fragment" in capsys.readouterr().out
    assert cli.main([*words, "--fragment"]) == cli.OK
    part.write_text("PartitionName=p Nodes=n[2-1] MaxTime=x\nFoo=1\n")
    assert cli.main([*words, "--fragment"]) == cli.FINDINGS
    assert "Foo: not a key of slurm.conf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("include", "at"),
    [
        ("/etc/slurm/partition.conf", "partition.conf"),
        ("/etc/slurm/conf.d/partition.conf", "conf.d/partition.conf"),
        ("conf.d/partition.conf", "conf.d/partition.conf"),
    ],
)
def test_an_included_file_that_lies_here_is_read(
    tmp_path: Path, include: str, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / at).write_text("PartitionName=p Nodes=n9 Default=YES\n")
    (tmp_path / "slurm.conf").write_text(HEAD + NODES + f"Include {include}\n")
    assert cli.main(["lint", str(tmp_path / "slurm.conf")]) == cli.FINDINGS
    assert f"{include}:1 PartitionName=p Nodes: n9 is in no NodeName line" in capsys.readouterr().out
    (tmp_path / at).unlink()
    assert cli.main(["lint", str(tmp_path / "slurm.conf")]) == cli.OK
    assert "cannot be read here" in capsys.readouterr().out
