"""The linter of Slurm's configuration files: what each line means to Slurm 24.11.5, and the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstate import cli, schema
from hpcstate.cluster import rendered
from hpcstate.errors import Problem, ProblemsError
from hpcstate.model import Cluster
from hpcstate.slurm import impact as slurm_impact
from hpcstate.slurm.conf import configuration
from hpcstate.slurm.gres import assign_declared, declared_gres
from hpcstate.slurm.keys import KINDS, Kind, keys
from hpcstate.slurm.lint.conf import kind_of, lint

INVENTORIES = sorted(Path(__file__).parents[3].glob("inventories/*.yaml"))
BASE = "ClusterName=c\nSlurmctldHost=h\n"
"""What slurm.conf cannot do without; problems of the lines after it begin at line 3."""

NODES = "NodeName=n[1-2] CPUs=4 RealMemory=1000\n"


def linted(text: str, kind: Kind = "slurm", included: Mapping[str, str] | None = None) -> list[Problem]:
    return list(lint(text, kind, (included or {}).get))


def seen(text: str, kind: Kind = "slurm", included: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    return [(problem.severity, problem.place) for problem in linted(text, kind, included)]


GOOD: list[tuple[Kind, str]] = [
    ("slurm", BASE),
    ("slurm", "clustername = c\nSLURMCTLDHOST=h(10.0.0.1)\n"),
    ("slurm", BASE + "# SelectTyp=wrong \\\nMailProg=/bin/mail # why\n"),
    ("slurm", BASE + 'MailDomain="a b" # quoted\n'),
    ("slurm", BASE + "MailProg=/bin/a\\#b\n"),
    ("slurm", BASE.replace("\n", "\r\n") + NODES.replace("\n", "\r\n")),
    ("slurm", BASE + "NodeName=n1 \\\n  CPUs=4 \\  \n  RealMemory=1000\n"),
    ("slurm", BASE + "NodeName=n1 \\ # a comment may follow the backslash\n CPUs=4\n"),
    ("slurm", BASE + "Prolog=/a\nProlog=/b\nSlurmctldHost=h2\n"),
    ("slurm", BASE + "SlurmdTimeout=0x10\nMaxArraySize=10k\nMaxJobCount=UNLIMITED\n"),
    ("slurm", BASE + "DebugFlags=gres,CPU_Bind\nSlurmctldDebug=debug2\nSlurmdDebug=3\n"),
    ("slurm", BASE + NODES + "PartitionName=p Nodes=ALL MaxTime=1-12:00:00 State=up\n"),
    ("slurm", BASE + NODES + "NodeSet=s Nodes=n1\nPartitionName=p Nodes=s,n2\n"),
    ("slurm", BASE + "GresTypes=gpu\n" + NODES.replace("\n", " Gres=gpu:a100:2(S:0-1),gpu:t4:1\n")),
    (
        "slurm",
        BASE + "NodeName=DEFAULT CPUs=4\nNodeName=n1\nPartitionName=DEFAULT Nodes=n1\nPartitionName=p\n",
    ),
    ("slurm", BASE + "NodeName=r[0-1]n[0-3] CPUs=4\nPartitionName=p Nodes=r0n1\n"),
    ("slurm", BASE + "TaskPlugin=cgroup,affinity\nMpiDefault=pmix_v5\nSwitchType=switch/none\n"),
    ("slurm", BASE + "PreemptType=preempt/qos\nPreemptMode=SUSPEND,GANG\n"),
    ("slurm", BASE + "AccountingStorageTRES=fs/disk,CPU\n"),
    (
        "slurm",
        BASE + "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageTRES=gres/gpu:a100\n",
    ),
    ("slurm", BASE + "Include nodes.conf\n"),
    ("cgroup", ""),
    ("job_container", "AutoBasePath=true\nNodeName=n[1-2] BasePath=/a InitScript=/b\nBasePath=none\n"),
    ("mpi", "PMIxTimeout=30\nPMIxDirectConn=no\n"),
    ("cgroup", "ConstrainCores=yes\nAllowedRAMSpace=98.5\nCgroupPlugin=cgroup/v2\n"),
    ("gres", ""),
    ("gres", "AutoDetect=nvml\nNodeName=n1 AutoDetect=off\n"),
    ("gres", "NodeName=n[1-2] Name=gpu Type=a100 File=/dev/nvidia[0-1] Cores=0-3 Flags=nvidia_gpu_env\n"),
    ("gres", "Name=gpu File=/dev/nvidia0\nName=shard Count=8 File=/dev/nvidia0\n"),
    ("gres", "NodeName=a Name=gpu File=/dev/nvidia0\nNodeName=b Name=gpu Count=1\n"),
    (
        "slurmdbd",
        "StorageType=accounting_storage/mysql\nDbdHost=h\nPurgeJobAfter=12months\nDebugLevel=info\n",
    ),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_what_slurm_takes_has_no_problem(kind: Kind, text: str) -> None:
    assert linted(text, kind, {"nodes.conf": NODES}) == []


BAD: list[tuple[Kind, str, str, str]] = [
    # keys
    ("slurm", "SelectTyp=select/cons_tres", "error", "SelectTyp"),
    ("slurm", "CPUs=4", "error", "CPUs"),
    ("slurm", "MemLimitEnforce=no", "error", "MemLimitEnforce"),
    ("slurm", "SallocDefaultCommand=x", "error", "SallocDefaultCommand"),
    ("slurm", "AccountingStorageLoc=x", "error", "AccountingStorageLoc"),
    ("slurm", "FrontendName=f", "error", "FrontendName=f"),
    ("slurm", "PowerPlugin=power/none", "warning", "PowerPlugin"),
    ("slurm", "LaunchType=launch/slurm", "warning", "LaunchType"),
    ("slurm", "ControlMachine=h", "warning", "ControlMachine"),
    ("cgroup", "TaskAffinity=yes", "error", "TaskAffinity"),
    ("cgroup", "CgroupReleaseAgentDir=/x", "error", "CgroupReleaseAgentDir"),
    ("cgroup", "CgroupAutomount=perhaps", "warning", "CgroupAutomount"),
    ("cgroup", "AllowedDevicesFile=/x", "warning", "AllowedDevicesFile"),
    ("gres", "Nam=gpu", "error", "Nam"),
    ("gres", "Name=gpu NodeName=n1 File=/dev/nvidia0", "error", "Name=gpu NodeName"),
    ("gres", "Name=gpu AutoDetect=nvml File=/dev/nvidia0", "warning", "Name=gpu AutoDetect"),
    # values
    ("slurm", "UsePAM=maybe", "error", "UsePAM"),
    ("slurm", "SlurmdTimeout=5m", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=70000", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=-1", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=090", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=0300", "warning", "SlurmdTimeout"),
    ("slurm", "MaxArraySize=" + "9" * 5000, "error", "MaxArraySize"),
    ("slurm", "TaskPluginParam=Sched", "error", "TaskPluginParam"),
    ("slurm", "DebugFlags=Gres,Gress", "error", "DebugFlags"),
    ("slurm", "FastSchedule=1", "warning", "FastSchedule"),
    ("slurm", "SelectType=select/cons_res", "error", "SelectType"),
    ("slurm", "SelectType=select/mine", "error", "SelectType"),
    ("slurm", "PluginDir=/opt/slurm\nSelectType=select/mine", "warning", "SelectType"),
    ("slurm", "SelectType=cons_tres", "error", "SelectType"),
    ("slurm", "MpiDefault=lam", "warning", "MpiDefault"),
    ("slurm", "JobCompType=jobcomp/kafka\nJobCompLoc=/a", "error", "JobCompType"),
    ("slurm", "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/a", "warning", "AuthAltTypes"),
    ("slurm", "AccountingStorageType=accounting_storage/mysql", "error", "AccountingStorageType"),
    ("slurm", "NodeName=n1 State=UP", "error", "NodeName=n1 State"),
    ("slurm", "PartitionName=p MaxTime=never", "error", "PartitionName=p MaxTime"),
    ("cgroup", "CgroupPlugin=v2", "error", "CgroupPlugin"),
    ("cgroup", "MaxRAMPercent=9x", "error", "MaxRAMPercent"),
    ("cgroup", "MemorySwappiness=101", "warning", "MemorySwappiness"),
    ("gres", "AutoDetect=nvlm", "warning", "AutoDetect"),
    ("slurmdbd", "PurgeJobAfter=12weeks", "error", "PurgeJobAfter"),
    # syntax
    ("slurm", "SlurmdTimeout 5", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=", "error", "SlurmdTimeout"),
    ("slurm", "SlurmdTimeout=5 UsePAM=no", "error", "SlurmdTimeout"),
    ("slurm", 'MailDomain="a b', "error", "MailDomain"),
    ("slurm", "MailDomain=a b", "error", "MailDomain"),
    ("slurm", 'MailDomain="a # b"', "warning", "MailDomain"),
    ("slurm", 'MailDomain="a b # c"', "error", "MailDomain"),
    ("slurm", "MailDomain=a\u00a0", "warning", "MailDomain"),
    ("slurm", "\u00a0# a comment", "error", "\u00a0"),
    ("slurm", "TCPTimeout=5\u00a0", "error", "TCPTimeout"),
    ("slurm", "NodeName=n\u00a01", "error", "NodeName=n\u00a01"),
    ("slurm", " Include nodes.conf", "error", "Include"),
    ("slurm", "Include *.conf", "error", "Include"),
    ("slurm", "Include absent.conf", "warning", "Include"),
    ("slurm", "Include clusters/%c.conf", "warning", "Include"),
    ("slurm", "PreemptMode+=OFF", "warning", "PreemptMode"),
    ("cgroup", "ConstrainCores=yes ConstrainDevices=yes", "error", "ConstrainCores"),
    # keys and names that meet
    ("slurm", "SlurmctldHost=h", "error", "SlurmctldHost=h"),
    ("slurm", "SlurmctldHost=b(1.2.3.4", "error", "SlurmctldHost=b(1.2.3.4"),
    ("slurm", "DefMemPerCPU=1\nDefMemPerNode=2", "warning", "DefMemPerCPU"),
    ("slurm", "PreemptType=preempt/qos", "error", "PreemptMode"),
    ("slurm", "PreemptMode=CANCEL", "error", "PreemptMode"),
    ("slurm", "PreemptType=preempt/qos\nPreemptMode=SUSPEND", "error", "PreemptMode"),
    ("slurm", "JobContainerType=job_container/tmpfs", "error", "JobContainerType"),
    ("slurm", "PrologFlags=Contain,NoHold", "error", "PrologFlags"),
    ("slurm", "TaskPluginParam=OOMKillStep", "error", "TaskPluginParam"),
    ("slurm", "SelectType=select/linear\nSelectTypeParameters=CR_Core", "error", "SelectTypeParameters"),
    ("slurm", "SelectTypeParameters=CR_Core,CR_Memory", "error", "SelectTypeParameters"),
    ("slurm", "GresTypes=shard", "error", "GresTypes"),
    ("slurm", "MCSParameters=x", "error", "MCSParameters"),
    ("slurm", "SlurmSchedLogLevel=1", "error", "SlurmSchedLogLevel"),
    ("slurm", "CommunicationParameters=DisableIPv4", "error", "CommunicationParameters"),
    ("slurm", "UnkillableStepTimeout=30", "warning", "UnkillableStepTimeout"),
    ("slurm", "AccountingStorageTRES=cpu,gres/gpu", "error", "AccountingStorageTRES"),
    ("slurm", "ReconfigFlags=KeepPart", "warning", "ReconfigFlags"),
    ("slurm", "PartitionName=p PreemptMode=never", "warning", "PartitionName=p PreemptMode"),
    ("slurm", "NodeName=n[1-2] CPUs=4\nNodeName=n2 CPUs=4", "error", "NodeName=n2"),
    ("slurm", "NodeName=n[1-2 CPUs=4", "error", "NodeName=n[1-2"),
    ("slurm", "NodeName=ALL", "error", "NodeName=ALL"),
    ("slurm", "NodeName=DEFAULT NodeAddr=a", "error", "NodeName=DEFAULT NodeAddr"),
    ("slurm", "NodeName=n[1-3] NodeAddr=10.0.0.[1-2]", "error", "NodeName=n[1-3] NodeAddr"),
    ("slurm", "NodeName=n1 CPUs=5 Sockets=2 CoresPerSocket=2", "warning", "NodeName=n1 CPUs"),
    ("slurm", "NodeName=n1 Sockets=1 SocketsPerBoard=1", "warning", "NodeName=n1 Sockets"),
    ("slurm", "NodeName=n1 MemSpecLimit=100", "warning", "NodeName=n1 MemSpecLimit"),
    ("slurm", "NodeName=n1 Gres=gpu:2", "warning", "NodeName=n1 Gres"),
    ("slurm", "GresTypes=gpu\nNodeName=n1 Gres=gpu:a:1,gpu:1", "error", "NodeName=n1 Gres"),
    ("slurm", "NodeName=n1\nPartitionName=p Nodes=n[1-2]", "error", "PartitionName=p Nodes"),
    ("slurm", "PartitionName=p\nPartitionName=p", "error", "PartitionName=p"),
    ("slurm", "PartitionName=p AllowAccounts=a DenyAccounts=b", "warning", "PartitionName=p DenyAccounts"),
    ("slurm", "PartitionName=p TRESBillingWeights=CPU", "error", "PartitionName=p TRESBillingWeights"),
    ("slurm", "PartitionName=p TRESBillingWeights=CPU=x", "error", "PartitionName=p TRESBillingWeights"),
    ("slurm", "NodeName=n1\nNodeSet=n1 Feature=f", "error", "NodeSet=n1"),
    ("gres", "NodeName=n1 File=/dev/nvidia0", "warning", "NodeName=n1 Name"),
    ("gres", "Name=gpu Count=few", "error", "Name=gpu Count"),
    ("gres", "Name=gpu Count=3 File=/dev/nvidia[0-1]", "error", "Name=gpu Count"),
    ("gres", "Name=gpu File=/dev/nvidia[0-1", "error", "Name=gpu File"),
    ("gres", "Name=gpu File=/dev/a MultipleFiles=/dev/[1-2]", "error", "Name=gpu MultipleFiles"),
    ("gres", "Name=gpu MultipleFiles=/dev/a", "error", "Name=gpu MultipleFiles"),
    ("gres", "Name=gpu File=/dev/a Flags=no_gpu_env,opencl_env", "error", "Name=gpu Flags"),
    ("gres", "Name=gpu File=/dev/a Flags=cuda", "warning", "Name=gpu Flags"),
    ("gres", "Name=gpu File=/dev/a\nNodeName=n1 Name=gpu", "error", "NodeName=n1 File"),
    ("gres", "Name=gpu Type=a File=/dev/a\nName=gpu File=/dev/b", "error", "Name=gpu Type"),
    ("gres", "Name=gpu\nName=gpu", "error", "Name=gpu"),
    ("job_container", "Foo=/x", "error", "Foo"),
    ("job_container", "Shared=perhaps", "error", "Shared"),
    ("job_container", "BasePath=/tmp", "warning", "BasePath=/tmp"),
    ("job_container", "BasePath=/a Dirs=/a,/b", "warning", "BasePath=/a"),
    ("job_container", "NodeName=n1 Dirs=/tmp", "error", "NodeName=n1 BasePath"),
    ("mpi", "PMIxTimeout=soon", "error", "PMIxTimeout"),
    ("mpi", "PMIxFoo=1", "warning", "PMIxFoo"),
    ("topology", "SwitchName=a Nodes=n1\nBlockName=b Nodes=n1", "error", "SwitchName=a"),
    ("acct_gather", "EnergyIPMIFrequency=0", "error", "EnergyIPMIFrequency"),
    ("acct_gather", "ProfileHDF5Default=ALL", "error", "ProfileHDF5Dir"),
    ("acct_gather", "ProfileHDF5Dir=/a\nProfileHDF5Default=Every", "error", "ProfileHDF5Default"),
    (
        "acct_gather",
        "ProfileInfluxDBHost=h\nProfileInfluxDBDatabase=d",
        "error",
        "ProfileInfluxDBRTPolicy",
    ),
    ("helpers", "Feature=1a Helper=/b", "error", "Feature=1a"),
    ("oci", "RunTimeRun=runc run", "warning", "RunTimeRun"),
]


@pytest.mark.parametrize(("kind", "text", "severity", "place"), BAD)
def test_what_slurm_refuses_or_ignores_is_one_problem(
    kind: Kind, text: str, severity: str, place: str
) -> None:
    before = {
        "slurm": BASE,
        "slurmdbd": "StorageType=accounting_storage/mysql\nDbdHost=h\n",
    }
    assert seen(before.get(kind, "") + text + "\n", kind) == [(severity, place)]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("slurm", "", [("error", "ClusterName"), ("error", "SlurmctldHost")]),
        ("slurm", "\ufeff" + BASE, [("error", "ClusterName"), ("error", "\ufeffClusterName")]),
        ("slurmdbd", "", [("warning", "DbdHost"), ("error", "StorageType")]),
        ("slurmdbd", "StorageType=accounting_storage/slurmdbd\nDbdHost=h", [("error", "StorageType")]),
        ("slurm", BASE + "a\0b", [("error", "slurm.conf")]),
    ],
)
def test_a_file_that_lacks_what_it_needs(kind: Kind, text: str, expected: list[tuple[str, str]]) -> None:
    assert seen(text, kind) == expected


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        ("slurm", "SelectTyp=a", "did you mean SelectType?"),
        ("slurm", "nodenam=a", "did you mean NodeName?"),
        ("slurm", "NodeName=n RealMemroy=1", "did you mean RealMemory?"),
        ("slurm", "NodeName=n MaxTime=1", "MaxTime belongs on PartitionName= lines"),
        ("slurm", "RealMemory=1", "RealMemory belongs on NodeName= lines"),
        ("slurm", "ConstrainCores=yes", "ConstrainCores is a key of cgroup.conf"),
        ("slurm", "DbdHost=h", "DbdHost is a key of slurmdbd.conf"),
        (
            "cgroup",
            "TaskAffinity=yes",
            "remove it, and write TaskPlugin=task/cgroup,task/affinity in slurm.conf",
        ),
        ("slurm", "DebugFlags=Gress", "did you mean Gres?"),
        ("slurm", "SelectType=select/cons_res", "write select/cons_tres"),
        ("slurm", "SelectType=select/con_tres", "did you mean select/cons_tres?"),
        ("slurm", "SlurmdTimeout=5\u00a0UsePAM=1", "is not a whole number"),
    ],
)
def test_the_hint_names_the_right_key_or_place(kind: Kind, text: str, hint: str) -> None:
    problems = linted((BASE if kind == "slurm" else "") + text, kind)
    assert hint in " ".join(f"{problem.message} {problem.hint}" for problem in problems)


def test_problems_have_the_line_where_the_statement_begins() -> None:
    text = BASE + "# comment\n\nNodeName=n1 \\\n  CPUs=4 \\\n  Foo=1\nBar=2\n"
    assert [(problem.line, problem.place) for problem in linted(text)] == [(5, "NodeName=n1 Foo"), (8, "Bar")]


def test_a_key_that_is_given_again_names_the_first_line() -> None:
    (problem,) = linted(BASE + "SlurmdTimeout=1\nslurmdtimeout=2\n")
    assert (problem.line, problem.severity) == (4, "warning")
    assert "line 3" in problem.message


def test_included_files_are_linted_with_the_file_that_includes_them() -> None:
    files = {"nodes.conf": "NodeName=n1\n\nFoo=1\nInclude more.conf\n", "more.conf": "NodeName=n1\n"}
    text = BASE + "Include nodes.conf\nPartitionName=p Nodes=n1\n"
    problems = linted(text, included=files)
    assert [(problem.line, problem.place) for problem in problems] == [
        (3, "more.conf:1 NodeName=n1"),
        (3, "nodes.conf:3 Foo"),
    ]


def test_what_an_unread_file_may_hold_is_not_called_missing() -> None:
    text = "Include absent.conf\nNodeName=n1 Gres=gpu:1\nPartitionName=p Nodes=n7\n"
    assert seen(text) == [("warning", "Include")]


def test_a_file_that_includes_itself_is_an_error() -> None:
    assert seen(BASE + "include a", included={"a": "include a\n"}) == [("error", "a:1 Include")]


def test_a_password_is_not_repeated() -> None:
    text = "StorageType=accounting_storage/mysql\nDbdHost=h\nStoragePass=secret word\n"
    (problem,) = linted(text, "slurmdbd")
    assert "secret" not in str(problem)
    assert "word" not in str(problem).replace("password", "")


def test_many_nodes_are_linted_in_one_go() -> None:
    names = ",".join(f"n{number}" for number in range(2000))
    assert linted(BASE + f"NodeName=n[0-1999] CPUs=4\nPartitionName=p Nodes={names}\n") == []
    assert linted(BASE + "NodeName=r[0-65535]n[0-65535] CPUs=4\nPartitionName=p Nodes=x\n") == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("slurm.conf", "slurm"),
        ("old-slurm.conf.bak", "slurm"),
        ("SlurmDBD.conf", "slurmdbd"),
        ("cgroup.conf", "cgroup"),
        ("gres.conf", "gres"),
        ("job_container.conf", "job_container"),
        ("mpi.conf", "mpi"),
        ("topology.conf", "topology"),
        ("acct_gather.conf", "acct_gather"),
        ("plugstack.conf", None),
    ],
)
def test_the_kind_follows_from_the_name(name: str, kind: Kind | None) -> None:
    assert kind_of(name) == kind


def test_the_table_knows_the_keys_that_the_table_of_impacts_knows() -> None:
    for file_name, record, key in slurm_impact.table():
        if not file_name or key in ("added", "removed", "include"):
            continue
        kind: Kind = next(kind for kind in KINDS if file_name == f"{kind}.conf")
        lines = keys(kind).lines
        # What stands on a line of BasePath is no record of its own there.
        known = {**lines[record], **keys(kind).records, **lines.get("BasePath", {})}
        assert key in known, (file_name, record, key)
    for record, table in keys("slurm").lines.items():
        if record in ("", "NodeName", "PartitionName"):
            for key in table:
                assert ("slurm.conf", record, key) in slurm_impact.table(), (record, key)


def test_every_row_of_the_table_is_about_a_known_key() -> None:
    for kind in KINDS:
        known = keys(kind)
        for begins, key in (*known.verdicts, *known.rules):
            assert key in known.lines[begins] or key in known.records, (kind, begins, key)
        assert known.families.keys() <= known.lines[""].keys()
        assert not known.gone.keys() & known.lines[""].keys()


def slurm_clusters() -> list[Cluster]:
    clusters = [cluster for path in INVENTORIES for cluster in schema.load(path).clusters]
    return [cluster for cluster in clusters if cluster.kind == "hpc"]


@pytest.mark.parametrize("cluster", slurm_clusters(), ids=lambda cluster: cluster.name)
def test_what_we_render_has_no_problem(cluster: Cluster) -> None:
    texts = dict(configuration(cluster))
    for node in cluster.workers:
        texts[f"gres.conf of {node.name}"] = assign_declared(node.name, declared_gres(node)).text
    for name, text in texts.items():
        kind = kind_of(name)
        assert kind
        assert lint(text, kind) == (), name
    files = {"slurm.conf", "cgroup.conf", "job_container.conf", "mpi.conf", "slurmdbd.conf"}
    assert set(rendered.findings(cluster)) == files


def test_a_wrong_parameter_stops_the_render_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.paths.BUILD", tmp_path)
    path = INVENTORIES[0].with_name("minimal.yaml")
    text = path.read_text() + "    slurm_config:\n      parameters:\n        TaskPluginParam: Sched\n"
    (cluster,) = schema.parse(text, path).clusters
    with pytest.raises(
        ProblemsError, match=r"(?s)TaskPluginParam.*slurm_config\.parameters\.TaskPluginParam"
    ):
        rendered.write(cluster)
    assert not list(tmp_path.rglob("slurm.conf"))


def write(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / f"{name}.conf").write_text(text)
    return [str(folder / f"{name}.conf") for name in texts]


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("ConstrainCores=yes\n", [], cli.OK),
        ("CgroupAutomount=yes\n", [], cli.OK),
        ("CgroupAutomount=yes\n", ["--strict"], cli.FINDINGS),
        ("Foo=yes\n", [], cli.FINDINGS),
    ],
)
def test_exit_codes(tmp_path: Path, text: str, options: list[str], code: int) -> None:
    assert cli.main(["lint", *write(tmp_path, cgroup=text), *options]) == code


def test_a_file_that_cannot_be_read_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = write(tmp_path, cgroup="Foo=yes\n")
    folder = tmp_path / "gres.conf"
    folder.mkdir()
    assert cli.main(["lint", str(tmp_path / "slurm.conf"), str(folder), file]) == cli.COULD_NOT_RUN
    output = capsys.readouterr()
    assert "slurm.conf: No such file or directory" in output.err
    assert "gres.conf: Is a directory" in output.err
    assert f"{file}:1: error: Foo: not a key of cgroup.conf" in output.out


def test_a_file_of_another_name_needs_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = write(tmp_path, mine="ConstrainCores=yes\n")
    assert cli.main(["lint", file]) == cli.COULD_NOT_RUN
    assert "--kind" in capsys.readouterr().err
    assert cli.main(["lint", file, "--kind", "cgroup"]) == cli.OK


def test_json_has_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(
        tmp_path, cgroup="CgroupAutomount=yes\n", slurm=BASE + "Include nodes.conf\n", nodes="Foo=1\n"
    )
    assert cli.main(["lint", "--json", *files[:2], str(tmp_path / "gres.conf")]) == cli.COULD_NOT_RUN
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [file["kind"] for file in answer["files"]] == ["cgroup", "slurm", "gres"]
    assert answer["files"][0]["problems"][0]["severity"] == "warning"
    assert answer["files"][1]["problems"][0]["place"] == "nodes.conf:1 Foo"
    assert answer["files"][2]["error"] == "No such file or directory"


def test_bytes_that_are_not_text_are_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "slurm.conf"
    file.write_bytes(b"\xff\xfe" + "ClusterName=c\n".encode("utf-16-le"))
    assert cli.main(["lint", str(file)]) == cli.FINDINGS


WORDS = st.sampled_from(
    [
        *("NodeName=", "PartitionName=", "Name=", "Nodes=", "File=", "Count=", "Gres=", "CPUs="),
        *("DEFAULT", "gpu"),
        *'[]-09n,()"\\#\n =é\r:{\0',
        "Include ",
    ]
)


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(), st.lists(WORDS, max_size=40).map("".join)), kind=st.sampled_from(KINDS))
def test_no_text_raises(text: str, kind: Kind) -> None:
    for problem in lint(text, kind, {"n": text}.get):
        assert problem.message
        assert 0 <= problem.line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("times", "warned"),
    [
        ("MaxTime=60 DefaultTime=2-0", True),
        ("MaxTime=24:00:00 DefaultTime=INFINITE", True),
        ("MaxTime=60 DefaultTime=1:00:00", False),
        ("MaxTime=INFINITE DefaultTime=2-0", False),
        ("DefaultTime=2-0", False),
    ],
)
def test_a_default_time_beyond_the_limit_is_ignored_by_slurm(times: str, warned: bool) -> None:
    found = seen(BASE + NODES + f"PartitionName=p Nodes=n1 {times}\n")
    assert found == ([("warning", "PartitionName=p DefaultTime")] if warned else [])
