"""The checks of GPUs and of control groups, against nodes that answer from a table."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import pytest

from hpcstate.check.runner import load_suites, run_check
from hpcstate.check.suite import CheckFailed, CheckResult, real_gpus
from hpcstate.model import Acceleration, Cluster, CpuTopology, PassthroughDevice
from hpcstate.run import Result
from hpcstate.slurm.conf import cgroup_conf, slurm_conf
from hpcstate.slurm.gres import assign, declared_gres
from hpcstate.slurm.gres_conf import gres_conf
from tests.suites import job_view, node_state, refusals
from tests.suites.job_view import JobView, own_device_problem
from tests.suites.refusals import UNAVAILABLE
from tests.unit.fake_live import TWO, FakeLive, a_cluster, a_node
from tests.unit.gpu_hosts import simulated_gpus

SUITES = load_suites()
SCHEDULING: Any = importlib.import_module("tests.suites.gpu_gres.test_scheduling")
DETECTION: Any = importlib.import_module("tests.suites.gpu_gres.test_detection")
CONFIGURATION: Any = importlib.import_module("tests.suites.gpu_gres.test_configuration")
GROUPS: Any = importlib.import_module("tests.suites.cgroup_isolation.test_cgroup_configuration")
RESTARTS: Any = importlib.import_module("tests.suites.cgroup_isolation.test_restarts")
RESOURCES: Any = importlib.import_module("tests.suites.cgroup_isolation.test_resources")

NODE = a_node("compute-01", 11)
SCOPE = "/system.slice/compute-01_slurmstepd.scope"


def a_report(host: str = "compute-01", **changes: object) -> dict[str, Any]:
    """What _look.py reports of a sound node, without a GPU."""
    group = f"/system.slice/{host}_slurmstepd.scope/job_7/step_0/user/task_0"
    report: dict[str, Any] = {
        "host": host,
        "job": "7",
        "gpus": "",
        "visible": "",
        "gpu_files": {"/dev/nvidia0": "EPERM", "/dev/nvidia1": "EPERM"},
        "smi": [],
        "open": {"/dev/null": "OK", "/dev/fuse": "OK"},
        "closed": {"/dev/mem": "EACCES", "/dev/vda": "EACCES"},
        "cgroup": group,
        "is_member": True,
        "memory_bytes": 100 << 20,
        "swap_bytes": 0,
        "cpus_of_group": "0",
        "cpus_of_node": 2,
        "cpus_of_job": 1,
        "cpus_given": [0],
        "cpus_after_widening": [0],
        "left_behind": 830,
        "left_behind_in": group,
    }
    return {**report, **changes}


def a_view(first: str, second: str, gpus: str = "0", visible: str = "0") -> JobView:
    files = {"/dev/nvidia0": first, "/dev/nvidia1": second}
    return JobView(**a_report(gpu_files=files, gpus=gpus, visible=visible))


def run_named(name: str, *reports: dict[str, Any], remains: str = "", cluster: Cluster = TWO) -> CheckResult:
    """The check ``name`` where every job prints ``reports``, and nodes say ``remains`` of what is left."""
    text = "".join(json.dumps(report) + "\n" for report in reports)
    (check,) = SUITES.select(name=name)
    return run_check(check, FakeLive(lambda node, script: text if "srun" in script else remains, cluster))


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (a_view("ENXIO", "EPERM"), ""),
        (a_view("EPERM", "ENXIO", gpus="1"), ""),
        (a_view("OK", "EPERM"), ""),
        (a_view("ENXIO", "ENXIO"), "2 devices pass the filter"),
        (a_view("EPERM", "EPERM"), "0 devices pass the filter"),
        (a_view("EACCES", "EPERM"), "does not open"),
        (a_view("ENXIO", "EPERM", gpus=""), "does not name one GPU"),
        (a_view("ENXIO", "EPERM", gpus="0,1"), "does not name one GPU"),
        (replace(a_view("", ""), gpu_files={"/dev/nvidia0": "ENXIO"}), "1 device files for 2 declared GPUs"),
        (replace(a_view("", ""), gpu_files={}), "0 device files for 2 declared GPUs"),
    ],
)
def test_own_device(view: JobView, words: str) -> None:
    problem = own_device_problem(NODE, view)
    assert words in problem if words else not problem


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        ({}, "passed"),
        ({"gpu_files": {"/dev/nvidia0": "EPERM", "/dev/nvidia1": "ENXIO"}}, "failed"),
        ({"gpu_files": {}}, "failed"),
        ({"gpus": "0"}, "failed"),
        (None, "failed"),
    ],
    ids=["refused", "one passes", "no device", "a GPU is given", "a node is silent"],
)
def test_without_gres(second: dict[str, Any] | None, outcome: str) -> None:
    reports = [a_report()] if second is None else [a_report(), a_report("compute-02", **second)]
    assert run_named("gpu-gres.without_gres", *reports).outcome == outcome


def with_gpus(host: str, count: int, visible: str) -> dict[str, Any]:
    files = {f"/dev/nvidia{n}": "ENXIO" if n < count else "EPERM" for n in range(2)}
    return a_report(host, gpu_files=files, gpus=visible, visible=visible)


@pytest.mark.parametrize(
    ("count", "visible", "outcome"),
    [(2, "0,1", "passed"), (1, "0,1", "failed"), (2, "0", "failed"), (2, "", "failed")],
    ids=["all", "a device is refused", "a GPU is not named", "no GPU is named"],
)
def test_gpus_per_node(count: int, visible: str, outcome: str) -> None:
    reports = [with_gpus("compute-01", 2, "0,1"), with_gpus("compute-02", count, visible)]
    assert run_named("gpu-gres.per_node", *reports).outcome == outcome


def test_gpus_per_node_without_a_report_is_a_failure() -> None:
    assert run_named("gpu-gres.per_node").outcome == "failed"


@pytest.mark.parametrize(
    ("second", "outcome"),
    [(("EPERM", "ENXIO"), "passed"), (("ENXIO", "EPERM"), "failed"), (("ENXIO", "ENXIO"), "failed")],
    ids=["its own", "the same", "both"],
)
def test_gpus_per_task(second: tuple[str, str], outcome: str) -> None:
    def task(host: str, first: str, second: str) -> dict[str, Any]:
        files = {"/dev/nvidia0": first, "/dev/nvidia1": second}
        return a_report(host, gpu_files=files, gpus="0", visible="0")

    reports = [
        task(host, *answers)
        for host in ("compute-01", "compute-02")
        for answers in (("ENXIO", "EPERM"), second)
    ]
    assert run_named("gpu-gres.per_task", *reports).outcome == outcome


REAL = PassthroughDevice("0000:01:00.0", "gpu", "10de", "2684")
ON_BUS: Any = {**simulated_gpus(0, ""), "bus": ["0000:01:00.0"]}
REAL_NODE = replace(a_node("compute-01", 11, gpus=0), passthrough=(REAL,))

# The form of nvidia-smi -L in NVIDIA's MIG User Guide, with and without MIG.
ONE = "GPU 0: A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)"
MIG = [
    "GPU 0: A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)",
    "  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)",
]


@pytest.mark.parametrize(
    ("smi", "outcome"),
    [
        ([ONE], "passed"),
        (MIG, "passed"),
        ([ONE, ONE.replace("GPU 0", "GPU 1")], "failed"),
        (["No devices found."], "failed"),
        ([], "failed"),
    ],
)
def test_nvidia_smi(smi: list[str], outcome: str) -> None:
    cluster = a_cluster(REAL_NODE)
    assert run_named("gpu-gres.nvidia_smi", a_report(smi=smi), cluster=cluster).outcome == outcome


def test_nvidia_smi_is_skipped_where_gpus_are_simulated() -> None:
    result = run_named("gpu-gres.nvidia_smi", a_report(smi=[ONE]))
    assert (result.outcome, "1 real GPU" in result.reason) == ("skipped", True)
    assert (real_gpus(NODE), real_gpus(REAL_NODE)) == (0, 1)


def answer_text(**words: str) -> str:
    requests = refusals.impossible(FakeLive(lambda node, script: ""))
    parts = dict.fromkeys(requests, f"srun: error: Unable to allocate resources: {UNAVAILABLE}\ncode 1")
    return "".join(f"=== request {label}\n{text}\n" for label, text in {**parts, **words}.items())


def refused(name: str, text: str, queue: str = "") -> CheckResult:
    def answer(node: str, script: str) -> str:
        if "=== request" in script:
            return text
        return queue if script.startswith("squeue") else "0\n"

    (check,) = SUITES.select(name=name)
    return run_check(check, FakeLive(answer))


@pytest.mark.parametrize("name", ["gpu-gres.too_many", "gpu-gres.types", "cgroup-isolation.too_much"])
def test_impossible_requests_are_refused(name: str) -> None:
    result = refused(name, answer_text())
    assert (result.outcome, UNAVAILABLE in result.observed) == ("passed", True)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("gpu-gres.types", "type"),
        ("gpu-gres.too_many", "gres"),
        ("gpu-gres.too_many", "gpus"),
        ("cgroup-isolation.too_much", "cpus"),
        ("cgroup-isolation.too_much", "memory"),
    ],
)
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("code 0", "it ran"),
        ("srun: error: Unable to allocate resources: Requested nodes are busy\ncode 1", "nodes are busy"),
        ("srun: job 8 queued and waiting for resources\ncode 124", "queued and waiting"),
    ],
)
def test_a_request_that_is_not_refused_for_good(name: str, label: str, said: str, words: str) -> None:
    result = refused(name, answer_text(**{label: said}))
    assert (result.outcome, words in result.observed) == ("failed", True)


def test_a_busy_cluster_refuses_for_now() -> None:
    result = refused("gpu-gres.too_many", answer_text(gres="code 0"), queue="train|7|alice|RUNNING\n")
    assert result.outcome == "skipped"


def test_the_requests_exceed_every_node() -> None:
    big = replace(a_node("compute-02", 12, cpus=8, gpus=4), memory_mb=65536)
    asked = refusals.impossible(FakeLive(lambda node, script: "", a_cluster(NODE, big)))
    assert asked["gres"] == "--gres=gpu:5"
    assert asked["cpus"] == "--cpus-per-task=9"
    assert int(asked["memory"].removeprefix("--mem=").rstrip("M")) > 63000


@pytest.mark.parametrize(
    ("name", "changes", "outcome"),
    [
        ("memory", {}, "passed"),
        ("memory", {"memory_bytes": None}, "failed"),
        ("memory", {"memory_bytes": 50 << 20}, "failed"),
        ("swap", {}, "passed"),
        ("swap", {"swap_bytes": None}, "failed"),
        ("swap", {"swap_bytes": 1 << 20}, "failed"),
        ("cores", {}, "passed"),
        ("cores", {"cpus_after_widening": [0, 1]}, "failed"),
        # Two threads of one core: both are the job's.
        ("cores", {"cpus_after_widening": [0, 1], "cpus_of_job": 2, "cpus_of_node": 4}, "passed"),
        ("cores", {"cpus_of_node": 1}, "passed"),
        ("open_devices", {}, "passed"),
        ("open_devices", {"open": {"/dev/null": "OK", "/dev/fuse": "EACCES"}}, "failed"),
        ("open_devices", {"open": {"/dev/null": "EPERM"}}, "failed"),
        ("closed_devices", {}, "passed"),
        ("closed_devices", {"closed": {"/dev/mem": "EPERM", "/dev/vda": "EPERM"}}, "passed"),
        ("closed_devices", {"closed": {"/dev/mem": "EACCES", "/dev/vda": "OK"}}, "failed"),
        ("closed_devices", {"closed": {}}, "failed"),
        ("hierarchy", {}, "passed"),
        ("hierarchy", {"cgroup": "/system.slice/slurmd.service"}, "failed"),
        ("hierarchy", {"cgroup": ""}, "failed"),
        ("hierarchy", {"job": "8"}, "failed"),
        ("hierarchy", {"is_member": False}, "failed"),
        ("hierarchy", {"left_behind_in": "/system.slice/slurmd.service"}, "failed"),
        ("descendants", {}, "passed"),
        ("clean", {}, "passed"),
    ],
)
def test_what_a_job_meets(name: str, changes: dict[str, object], outcome: str) -> None:
    result = run_named(f"cgroup-isolation.{name}", a_report(), a_report("compute-02", **changes))
    assert result.outcome == outcome, result


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("descendants", "daemon\n", "compute-01: the daemon 830 lives"),
        ("clean", "group job_3\ngroup job_4\n", "compute-01: job_3, job_4"),
    ],
)
def test_what_a_job_leaves(name: str, text: str, words: str) -> None:
    result = run_named(f"cgroup-isolation.{name}", a_report(), a_report("compute-02"), remains=text)
    assert (result.outcome, words in result.observed) == ("failed", True)


def test_cores_that_are_all_of_every_node_prove_nothing() -> None:
    reports = [a_report(host, cpus_of_node=1) for host in ("compute-01", "compute-02")]
    assert run_named("cgroup-isolation.cores", *reports).outcome == "failed"


@pytest.mark.parametrize(
    ("conf", "limit"),
    [
        ("ConstrainSwapSpace=yes\n", 0),
        ("ConstrainSwapSpace=yes\nAllowedSwapSpace=50\n", 50),
        ("ConstrainSwapSpace=no\nAllowedSwapSpace=50\n", None),
        ("", None),
    ],
)
def test_swap(conf: str, limit: int | None) -> None:
    assert RESOURCES.swap_bytes(conf, 100) == limit


def overflow_answer(output: str, state: str = "OUT_OF_MEMORY") -> CheckResult:
    def answer(node: str, script: str) -> str:
        if script.startswith("squeue"):
            names = next(word for word in script.split() if word.startswith("--name="))[7:].split(",")
            rows = "".join(f"{name}|7|{state}|None\n" for name in names)
            return rows + "".join(f"\n=== output of {label}0\n{output}" for label in ("heap", "shm"))
        if script.startswith("scontrol --oneliner"):
            return f"JobId=7 JobState={state} ExitCode=0:125 NodeList=compute-[01-02]"
        return ""

    (check,) = SUITES.select(name="cgroup-isolation.shared_memory")
    return run_check(check, FakeLive(answer))


# srun of 24.11.5 under software emulation, for a job on two nodes.
KILLED = """\
slurmstepd-compute-02: error: Detected 1 oom_kill event in StepId=52.0. Some of the step tasks have been OOM \
Killed.
srun: error: compute-02: task 1: Out Of Memory
slurmstepd-compute-01: error: Detected 1 oom_kill event in StepId=52.0. Some of the step tasks have been OOM \
Killed.
"""


def test_shared_memory() -> None:
    result = overflow_answer(KILLED)
    assert result.outcome == "passed"
    assert "/dev/shm on compute-01 compute-02: JobState=OUT_OF_MEMORY ExitCode=0:125" in result.observed


@pytest.mark.parametrize(
    ("output", "state", "words"),
    [
        (
            KILLED + '{"host": "compute-02", "held_mb": 200}\n',
            "OUT_OF_MEMORY",
            "compute-02: 200 MiB were taken",
        ),
        ("", "COMPLETED", "COMPLETED"),
        (KILLED.replace("compute-01", "x"), "OUT_OF_MEMORY", "compute-01: srun says nothing of it"),
    ],
    ids=["one survives", "ended by itself", "silent"],
)
def test_memory_that_does_not_count(output: str, state: str, words: str) -> None:
    result = overflow_answer(output, state)
    assert (result.outcome, words in result.observed) == ("failed", True), result


def a_state(**changes: object) -> node_state.NodeState:
    """What a sound node has, read from what the command prints there (Slurm 24.11.5)."""
    state = node_state.parse("compute-01", STATE)
    return replace(state, **changes)  # type: ignore[arg-type]


GRES_CONF = gres_conf(
    "compute-01", assign("compute-01", declared_gres(NODE), simulated_gpus(2, "simulated")).devices
)
CGROUP_CONF = cgroup_conf(TWO)
STATE = f"""\
=== section files
644 root:root /etc/slurm/gres.conf
644 root:root /etc/slurm/cgroup.conf

{"a" * 64}  /etc/slurm/gres.conf
{"b" * 64}  /etc/slurm/cgroup.conf

=== section contents
{len(CGROUP_CONF)} ./cgroup.conf
{len(GRES_CONF)} ./gres.conf

{CGROUP_CONF}{GRES_CONF}
=== section gpus
marker {{"count": 2, "gres_type": "simulated"}}
node c3 0 /dev/nvidia0
node c3 1 /dev/nvidia1

=== section devices
c3 0 666 character special file|/dev/nvidia0
c3 1 666 character special file|/dev/nvidia1

=== section mounted
cgroup2fs

=== section scope
controllers cpuset cpu io memory pids
subtree_control cpuset cpu memory

=== section delegated
yes

=== section slurmd
slurmd: Gres Name=gpu Type=simulated Count=1 Index=0 ID=7696487 File=/dev/nvidia0 Links=(null) Flags=HAS_FILE
slurmd: Gres Name=gpu Type=simulated Count=1 Index=1 ID=7696487 File=/dev/nvidia1 Links=(null) Flags=HAS_FILE

"""


def test_a_sound_node_has_no_findings() -> None:
    state = a_state()
    assert CONFIGURATION.gres_conf_findings(FakeLive(lambda node, script: ""), state) == []
    assert GROUPS.cgroup_conf_findings(state, CGROUP_CONF) == []
    assert GROUPS.scope_findings(state) == []
    assert DETECTION.hardware_findings(NODE, state) == []
    assert DETECTION.device_findings(state) == []
    assert node_state.slurmd_gpus(state.slurmd) == {"simulated": 2}
    assert node_state.gres_files(GRES_CONF) == ("/dev/nvidia0", "/dev/nvidia1")


FILES = a_state().files
FILE = FILES["/etc/slurm/gres.conf"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": {}}, "has no /etc/slurm/gres.conf"),
        ({"files": {"/etc/slurm/gres.conf": {**FILE, "mode": "666"}}}, "is root:root 666"),
        ({"files": {"/etc/slurm/gres.conf": {**FILE, "owner": "slurm:slurm"}}}, "is slurm:slurm 644"),
        ({"contents": {"gres.conf": GRES_CONF + "# mine\n"}}, "differs in # mine"),
        ({"contents": {}}, "differs in"),
        ({"gpus": simulated_gpus(0, "")}, "declares 2 GPUs"),
    ],
)
def test_gres_conf_that_is_not_as_rendered(changes: dict[str, Any], words: str) -> None:
    findings = CONFIGURATION.gres_conf_findings(FakeLive(lambda node, script: ""), a_state(**changes))
    assert any(words in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CGROUP_CONF + "CgroupAutomount=yes\n", "CgroupAutomount defunct"),
        (CGROUP_CONF.replace("ConstrainDevices=yes", "ConstrainDevices=no"), "differs in ConstrainDevices"),
        ("", "differs in"),
    ],
)
def test_cgroup_conf_that_is_not_as_rendered(text: str, words: str) -> None:
    findings = GROUPS.cgroup_conf_findings(a_state(contents={"cgroup.conf": text}), CGROUP_CONF)
    assert any(words in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mounted": "tmpfs"}, "has tmpfs at"),
        ({"scope": {"version": 0, "controllers": [], "subtree_control": []}}, "no slurmstepd.scope"),
        (
            {"scope": {"version": 2, "controllers": [], "subtree_control": ["cpu", "cpuset"]}},
            "no memory for jobs",
        ),
        ({"delegated": False}, "not delegated"),
    ],
)
def test_a_scope_that_slurm_cannot_use(changes: dict[str, Any], words: str) -> None:
    (finding,) = GROUPS.scope_findings(a_state(**changes))
    assert words in finding


def test_a_scope_without_a_job_since_the_boot() -> None:
    scope = {"version": 2, "controllers": ["cpuset", "cpu", "memory", "pids"], "subtree_control": []}
    assert GROUPS.scope_findings(a_state(scope=scope)) == []
    (finding,) = GROUPS.scope_findings(a_state(scope={**scope, "controllers": ["cpu"]}))
    assert "no cpuset, memory for jobs" in finding


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": {}}, "has no /dev/nvidia0"),
        ({"contents": {"gres.conf": "# none\n"}}, "names no device file"),
        ({"devices": {"/dev/nvidia0": node_state.DeviceFile("regular empty file", 0, 0, "666")}}, "regular"),
        (
            {
                "devices": dict.fromkeys(
                    ("/dev/nvidia0", "/dev/nvidia1"),
                    node_state.DeviceFile("character special file", 195, 0, "666"),
                )
            },
            "2 files are 195:0",
        ),
    ],
)
def test_device_files_that_are_none(changes: dict[str, Any], words: str) -> None:
    findings = DETECTION.device_findings(a_state(**changes))
    assert any(words in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus": simulated_gpus(1, "simulated")}, "declares 2 GPUs"),
        ({"gpus": simulated_gpus(3, "simulated")}, "not used: /dev/nvidia2"),
        ({"gpus": ON_BUS}, "1 NVIDIA GPUs on its bus, declared are 0"),
    ],
)
def test_hardware_that_is_not_as_declared(changes: dict[str, Any], words: str) -> None:
    findings = DETECTION.hardware_findings(NODE, a_state(**changes))
    assert any(words in finding for finding in findings), findings


def test_what_autodetect_finds_is_looked_at() -> None:
    found = a_state(contents={"gres.conf": "NodeName=compute-01 AutoDetect=nvidia\n"})
    assert DETECTION.device_findings(found) == []
    assert "has no /dev/nvidia2" in DETECTION.device_findings(replace(found, gpus=simulated_gpus(3, "")))[0]


def test_mig_instances_are_not_taken_for_gpus() -> None:
    split = replace(REAL_NODE, passthrough=(replace(REAL, mig=("1g.5gb", "1g.5gb")),))
    result = run_named("gpu-gres.own_device", a_report(), cluster=a_cluster(split))
    assert (result.outcome, "MIG instances" in result.reason) == ("skipped", True)
    assert (real_gpus(split), len(split.gres_types)) == (1, 2)


def test_real_gpus_need_their_driver() -> None:
    findings = DETECTION.hardware_findings(REAL_NODE, a_state(gpus=ON_BUS))
    assert "compute-01: NVIDIA's driver is not loaded" in findings


def controller_answer(config: str = "", gres: str = "gpu:simulated:2", tres: str = "cpu=2,mem=1751M") -> str:
    nodes = [
        {
            "name": node.name,
            "state": ["IDLE"],
            "reason": "",
            "reason_set_by_user": "",
            "gres": gres,
            "gres_used": "gpu:simulated:0(IDX:N/A)",
            "cpus": 2,
            "alloc_cpus": 0,
            "real_memory": 1751,
            "version": "24.11.5",
            "tres": tres,
        }
        for node in TWO.workers
    ]
    sound = {"GresTypes": "gpu", "SelectType": "select/cons_tres", "AccountingStorageType": "(null)"}
    sound |= {"ProctrackType": "proctrack/cgroup", "TaskPlugin": "task/cgroup,task/affinity"}
    sound |= {"JobAcctGatherType": "jobacct_gather/cgroup", "AccountingStorageTRES": "cpu,mem"}
    sound |= dict(line.split("=") for line in CGROUP_CONF.splitlines() if "=" in line)
    sound["SystemdTimeout"] += " ms"
    sound |= dict(line.split("=") for line in config.splitlines())
    shown = "".join(f"{key:<24}= {value}\n" for key, value in sound.items())
    table = "".join(f"{node.name} {gres}\n" for node in TWO.workers for _ in range(2))
    part = "=== next part\n"
    return f"{shown}{part}{json.dumps({'nodes': nodes})}\n{part}{table}"


def run_controller(name: str, text: str) -> CheckResult:
    (check,) = SUITES.select(name=name)
    return run_check(check, FakeLive(lambda node, script: text))


@pytest.mark.parametrize("name", ["gpu-gres.configured", "gpu-gres.shown", "cgroup-isolation.in_force"])
def test_a_sound_controller(name: str) -> None:
    result = run_controller(name, controller_answer())
    assert result.outcome == "passed", result


ACCOUNTS = "AccountingStorageType=accounting_storage/slurmdbd\n"
KEPT = "AccountingStorageTRES=cpu,gres/gpu\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "gpu-gres.configured",
            controller_answer("GresTypes=(null)"),
            "GresTypes is not set, rendered is gpu",
        ),
        ("gpu-gres.configured", controller_answer("SelectType=select/linear"), "SelectType is select/linear"),
        ("gpu-gres.configured", controller_answer(ACCOUNTS), "lacks gres/gpu"),
        ("gpu-gres.shown", controller_answer(gres="gpu:simulated:1"), "sinfo %G gpu:simulated:1"),
        ("gpu-gres.shown", controller_answer(gres="(null)"), "sinfo %G none"),
        ("gpu-gres.shown", controller_answer(KEPT), "CfgTRES gres/gpu=0"),
        ("gpu-gres.shown", controller_answer(KEPT, tres="cpu=2,gres/gpu=1"), "CfgTRES gres/gpu=1"),
        (
            "cgroup-isolation.in_force",
            controller_answer("ConstrainCores=no"),
            "ConstrainCores is no, rendered",
        ),
        ("cgroup-isolation.in_force", controller_answer("TaskPlugin=task/affinity"), "lacks task/cgroup"),
    ],
)
def test_a_controller_that_runs_with_something_else(name: str, text: str, words: str) -> None:
    result = run_controller(name, text)
    assert (result.outcome, words in result.observed) == ("failed", True), result


def test_accounts_that_know_of_gpus() -> None:
    result = run_controller("gpu-gres.configured", controller_answer(ACCOUNTS + KEPT))
    assert (result.outcome, "slurmdbd keeps gres/gpu" in result.observed) == ("passed", True)
    kept = controller_answer(KEPT, tres="cpu=2,gres/gpu=2")
    assert run_controller("gpu-gres.shown", kept).outcome == "passed"


@pytest.mark.parametrize("name", ["gpu-gres.configured", "gpu-gres.shown", "cgroup-isolation.in_force"])
def test_a_silent_slurmctld_is_a_failure(name: str) -> None:
    assert run_controller(name, "").outcome == "failed"


def test_a_job_that_waits_beside_others_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcstate.check.jobs.QUEUE_SECONDS", 0)

    def answer(node: str, script: str) -> str:
        if script.startswith("squeue --noheader --nodelist=compute-02"):
            return f"{names[0]}|7|hpc|RUNNING\n" + others
        if script.startswith("squeue"):
            names[:] = next(word for word in script.split() if word.startswith("--name="))[7:].split(",")
            rows = [f"{names[0]}|7|RUNNING|None", *(f"{name}|8|PENDING|Resources" for name in names[1:])]
            return "\n".join(rows) + "\n=== output of x\n"
        return ""

    (check,) = SUITES.select(name="cgroup-isolation.cpus_wait")
    names: list[str] = []
    others = ""
    result = run_check(check, FakeLive(answer))
    assert result.outcome == "passed", result
    others = "train|9|alice|RUNNING\n"
    result = run_check(check, FakeLive(answer))
    assert (result.outcome, result.reason) == ("skipped", "compute-02 is busy: job 9 of alice is running")


def test_a_waiting_job_needs_a_second_core() -> None:
    """Two threads of one core are two CPUs, and a job with one has both."""
    two_threads = replace(TWO, acceleration=Acceleration(cpu_topology=CpuTopology(1, 1, 2)))
    result = run_named("gpu-gres.waits", cluster=two_threads)
    assert (result.outcome, "has one core" in result.reason) == ("skipped", True)


def test_a_node_that_does_not_look_is_a_failure() -> None:
    live = FakeLive(lambda node, script: json.dumps(a_report()) + "\n")
    with pytest.raises(CheckFailed, match="reports from compute-01"):
        job_view._look(live, live.workers, "--gres=none")


@pytest.mark.parametrize(
    ("total", "parts", "shares"), [(2, 1, [2]), (2, 2, [1, 1]), (8, 3, [3, 3, 2]), (3, 3, [1, 1, 1])]
)
def test_split(total: int, parts: int, shares: list[int]) -> None:
    assert SCHEDULING._split(total, parts) == shares


def test_one_gpu_more_changes_the_node_lines_only() -> None:
    text = slurm_conf(TWO)
    more = SCHEDULING._one_gpu_more(text)
    assert "Gres=gpu:simulated:2 " in text
    assert text.replace("gpu:simulated:2 ", "gpu:simulated:3 ") == more


def test_another_node_is_in_every_partition() -> None:
    text = RESTARTS._with_another_node(slurm_conf(TWO))
    assert "Nodes=compute-[01-02],hpcstate-fault Default" in text
    assert "GresTypes=gpu,nic\n" in text
    assert text.endswith("State=UNKNOWN\n")


def test_the_last_gpu_gets_another_type() -> None:
    text = CONFIGURATION._other_type(GRES_CONF)
    assert text == GRES_CONF.replace("simulated File=/dev/nvidia1", "other File=/dev/nvidia1")


def test_a_command_that_fails_on_a_node_is_no_finding() -> None:
    (check,) = SUITES.select(name="gpu-gres.devices")
    result = run_check(check, FakeLive(lambda node, script: Result(("ssh",), 1, "", "sudo: no")))
    assert result.outcome == "error"
