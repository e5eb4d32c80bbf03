"""Each alert by promtool: it fires on its fault, when it should and not before, and not where all is well."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcstate.monitoring import job_exporter, server, units
from tests.unit.monitoring.asked import ON as DASHBOARDS_ON
from tests.unit.monitoring.asked import known_names, names_of
from tests.unit.monitoring.judges import program_of
from tests.unit.monitoring.watched import ON
from tests.unit.monitoring.watched import cluster as watched

PROMTOOL = program_of("promtool")
UNIT = "node_systemd_unit_state"
BLANK = "9223372036854775794"
"""What DCGM says where it has no value (dcgm_structs.h, DCGM_INT64_BLANK and above)."""


@dataclass(frozen=True)
class Case:
    """``series`` (name to promtool's notation of values, a value a minute) make ``alert`` fire ``at`` a time
    for these ``fires`` (a set of labels each), none is that it stays quiet."""

    alert: str
    at: str
    series: dict[str, str]
    fires: list[dict[str, str]] = field(default_factory=list)


OF_NODE_EXPORTER = {
    "node_scrape_collector_success",
    "node_textfile_scrape_error",
    "node_filesystem_files",
    "mysql_up",
}
"""Told by 1.9.0 of node exporter and 0.17.2 of mysqld exporter, tried; not in what is recorded."""

DRAINED = "hpcstate_slurm_node_drained_since_timestamp_seconds"
NODE = {"instance": "n1", "job": "node", "role": "compute"}
DISK = '{mountpoint="/",fstype="ext4",instance="n1"}'
DISK_LABELS = {"mountpoint": "/", "fstype": "ext4", "instance": "n1"}
XID = {"gpu": "0", "instance": "n1"}
LOWER = "gres/gpu count reported lower than configured (1 < 2)"
"""slurmctld's reason (24.11, lab; src/interfaces/gres.c)."""


def inodes(free: str, every: str) -> dict[str, str]:
    return {
        f"node_filesystem_files_free{DISK}": free,
        f"node_filesystem_files{DISK}": every,
        f"node_filesystem_readonly{DISK}": "0x20",
    }


def unit(name: str, role: str) -> str:
    return f'{UNIT}{{name="{name}.service",state="active",instance="n1",role="{role}"}}'


def unit_labels(name: str, role: str) -> dict[str, str]:
    return {"name": f"{name}.service", "state": "active", "instance": "n1", "role": role}


BUS = "00000000:41:00.0"
GAUGE = 'DCGM_FI_DEV_XID_ERRORS{gpu="0",instance="n1"}'
LOGGED = f'hpcstate_gpu_xids_total{{pci_bus_id="{BUS}",instance="n1"}}'
REAL = 'hpcstate_gpus_real{instance="n1",job="node",role="compute"}'
BACKUP = 'hpcstate_backup_taken_timestamp_seconds{instance="controller"}'

CASES = [
    # Daily: two days and an hour.
    Case("BackupTooOld", "48h", {BACKUP: "0x4000"}),
    Case("BackupTooOld", "50h", {BACKUP: "0x4000"}, [{"instance": "controller"}]),
    Case("BackupTooOld", "60h", {BACKUP: f"0x2800 {2800 * 60}x1000"}),
    Case("BackupMissing", "50h", {BACKUP: "0x4000"}),
    Case("BackupMissing", "48h", {"up": "1x4000"}),
    Case("BackupMissing", "50h", {"up": "1x4000"}, [{}]),
    Case("NodeDown", "2m", {'up{job="node",instance="n1",role="compute"}': "0x20"}),
    Case("NodeDown", "4m", {'up{job="node",instance="n1",role="compute"}': "0x20"}, [NODE]),
    Case("NodeDown", "9m", {'up{job="node",instance="n1",role="compute"}': "0 0 0 0 0 1 1 1 1 1 1"}),
    Case(
        "ExporterDown",
        "6m",
        {'up{job="mysqld",instance="n1"}': "0x20"},
        [{"job": "mysqld", "instance": "n1"}],
    ),
    Case("ExporterDown", "6m", {'up{job="node",instance="n1"}': "0x20"}),
    Case("MungeDown", "2m", {unit("munge", "compute"): "0x20"}, [unit_labels("munge", "compute")]),
    Case("MungeDown", "2m", {unit("munge", "compute"): "1x20"}),
    Case("SlurmdDown", "3m", {unit("slurmd", "compute"): "0x20"}, [unit_labels("slurmd", "compute")]),
    # A controller has a slurmd of the image that never runs.
    Case("SlurmdDown", "3m", {unit("slurmd", "controller"): "0x20"}),
    Case(
        "SlurmctldDown",
        "3m",
        {unit("slurmctld", "controller"): "0x9"},
        [unit_labels("slurmctld", "controller")],
    ),
    Case("SlurmctldDown", "3m", {unit("slurmctld", "compute"): "0x9"}),
    # The daemon runs, and does not answer.
    Case(
        "SlurmctldDown",
        "3m",
        {unit("slurmctld", "controller"): "1x9", 'hpcstate_slurm_answers{command="squeue"}': "0x9"},
        [{"command": "squeue"}],
    ),
    Case(
        "SlurmdbdDown", "3m", {unit("slurmdbd", "controller"): "0x9"}, [unit_labels("slurmdbd", "controller")]
    ),
    Case("MariaDBDown", "3m", {'mysql_up{instance="n1"}': "0x9"}, [{"instance": "n1"}]),
    Case("SlurmdbdQueue", "11m", {"slurm_slurmdbd_queue_size": "5000x20"}, [{}]),
    Case("ClockSkew", "4m", {'node_time_seconds{instance="n1"}': "30+60x20"}, [{"instance": "n1"}]),
    Case("ClockSkew", "4m", {'node_time_seconds{instance="n1"}': "1+60x20"}),
    Case(
        "DiskFilling",
        "11m",
        {
            f"node_filesystem_avail_bytes{DISK}": "5x20",
            f"node_filesystem_size_bytes{DISK}": "100x20",
            f"node_filesystem_readonly{DISK}": "0x20",
        },
        [{"mountpoint": "/", "fstype": "ext4", "instance": "n1"}],
    ),
    Case(
        "DiskFull",
        "3m",
        {
            f"node_filesystem_avail_bytes{DISK}": "1x20",
            f"node_filesystem_size_bytes{DISK}": "100x20",
            f"node_filesystem_readonly{DISK}": "0x20",
        },
        [{"mountpoint": "/", "fstype": "ext4", "instance": "n1"}],
    ),
    # An image that is mounted read-only is always full.
    Case(
        "DiskFilling",
        "11m",
        {
            f"node_filesystem_avail_bytes{DISK}": "0x20",
            f"node_filesystem_size_bytes{DISK}": "100x20",
            f"node_filesystem_readonly{DISK}": "1x20",
        },
    ),
    Case(
        "CertificateEnds",
        "1m",
        {'hpcstate_certificate_not_after_timestamp_seconds{instance="n1",file="f"}': "2500000x9"},
        [{"instance": "n1", "file": "f"}],
    ),
    Case(
        "CertificateEnds",
        "1m",
        {'hpcstate_certificate_not_after_timestamp_seconds{instance="n1",file="f"}': "2700000x9"},
    ),
    # The authority's own certificate, and the directory's, which only the controller tells of.
    Case(
        "CertificateEnds",
        "1m",
        {
            'hpcstate_certificate_not_after_timestamp_seconds{instance="n1",file="ca"}': "2500000x9",
            'hpcstate_certificate_not_after_timestamp_seconds{instance="n1",file="f"}': "9900000x9",
        },
        [{"instance": "n1", "file": "ca"}],
    ),
    Case(
        "CollectorFails",
        "11m",
        {'node_scrape_collector_success{collector="systemd",instance="n1"}': "0x20"},
        [{"collector": "systemd", "instance": "n1"}],
    ),
    Case(
        "CollectorFails",
        "11m",
        {'node_textfile_scrape_error{instance="n1"}': "1x20"},
        [{"instance": "n1"}],
    ),
    # Of a virtual machine's hardware many tell nothing.
    Case("CollectorFails", "11m", {'node_scrape_collector_success{collector="nvme",instance="n1"}': "0x20"}),
    Case("CollectorFails", "11m", {'node_scrape_collector_success{collector="time",instance="n1"}': "1x20"}),
    Case("FilesFilling", "11m", inodes("2x20", "100x20"), [DISK_LABELS]),
    Case("FilesFilling", "11m", inodes("20x20", "100x20")),
    # btrfs has no such number.
    Case("FilesFilling", "11m", inodes("0x20", "0x20")),
    Case(
        "ContainerMissing",
        "61m",
        {
            'hpcstate_slurm_node_runs{node="n1",key="container.mpi-minimal",runs="a"}': "1x99",
            'hpcstate_slurm_node_runs{node="n2",key="image",runs="b"}': "1x99",
        },
        [{"node": "n2", "container": "mpi-minimal"}],
    ),
    # One that nobody has looked at says nothing; one that only some nodes have was given to some.
    Case(
        "ContainerMissing",
        "61m",
        {
            'hpcstate_slurm_node_runs{node="n1",key="container.mpi-minimal",runs="a"}': "1x99",
            'hpcstate_slurm_node_runs{node="n1",key="container.tool",runs="c"}': "1x99",
            'hpcstate_slurm_node_state{node="n2",state="idle"}': "1x99",
        },
    ),
    Case(
        "NodeDrained",
        "13h",
        {'hpcstate_slurm_node_drained_since_timestamp_seconds{node="n1",user="bob",reason="fan"}': "0x900"},
        [{"node": "n1", "user": "bob", "reason": "fan"}],
    ),
    Case(
        "NodeDrained",
        "11h",
        {'hpcstate_slurm_node_drained_since_timestamp_seconds{node="n1",user="bob",reason="fan"}': "0x900"},
    ),
    Case(
        "NodeNotResponding",
        "6m",
        {'hpcstate_slurm_node_state{node="n1",state="noresp"}': "1x20"},
        [{"node": "n1"}],
    ),
    Case("NodeNotResponding", "6m", {'hpcstate_slurm_node_state{node="n1",state="drain"}': "1x20"}),
    Case(
        "QueueStuck",
        "90m",
        {
            "hpcstate_slurm_jobs_eligible": "3x99",
            "slurm_sdiag_jobs_started": "7x99",
            "slurm_nodes_idle": "1x99",
        },
        [{}],
    ),
    Case(
        "QueueStuck",
        "90m",
        {
            "hpcstate_slurm_jobs_eligible": "3x99",
            "slurm_sdiag_jobs_started": "7x60 8x39",
            "slurm_nodes_idle": "1x99",
        },
    ),
    Case(
        "QueueStuck",
        "90m",
        {
            "hpcstate_slurm_jobs_eligible": "3x99",
            "slurm_sdiag_jobs_started": "7x99",
            "slurm_nodes_idle": "0x99",
        },
    ),
    Case(
        "SlurmSlow",
        "11m",
        {'hpcstate_slurm_asked_seconds{command="squeue"}': "20x20"},
        [{"command": "squeue"}],
    ),
    Case(
        "NodesOutOfStep",
        "61m",
        {
            'hpcstate_slurm_node_runs{node="n1",key="image",runs="a"}': "1x99",
            'hpcstate_slurm_node_runs{node="n2",key="image",runs="b"}': "1x99",
        },
        [{"key": "image"}],
    ),
    # Configurations differ by the role of a node.
    Case(
        "NodesOutOfStep",
        "61m",
        {
            'hpcstate_slurm_node_runs{node="n1",key="configuration",runs="a"}': "1x99",
            'hpcstate_slurm_node_runs{node="n2",key="configuration",runs="b"}': "1x99",
            'hpcstate_slurm_node_runs{node="n1",key="image",runs="a"}': "1x99",
            'hpcstate_slurm_node_runs{node="n2",key="image",runs="a"}': "1x99",
        },
    ),
    Case(
        "GpuMissing",
        "6m",
        {
            'slurm_node_gpus{node="n1",instance="controller",job="slurm"}': "1x20",
            'hpcstate_gpus_declared{instance="n1",job="node"}': "2x20",
        },
        [{"instance": "n1", "node": "n1", "job": "slurm"}],
    ),
    Case(
        "GpuMissing",
        "6m",
        {
            'slurm_node_gpus{node="n1",instance="controller",job="slurm"}': "2x20",
            'hpcstate_gpus_declared{instance="n1",job="node"}': "2x20",
        },
    ),
    # What slurmctld does when a node registers with fewer; the count that it shows stays (24.11).
    Case(
        "GpuMissing",
        "6m",
        {
            'slurm_node_gpus{node="n1",instance="controller",job="slurm"}': "2x20",
            'hpcstate_gpus_declared{instance="n1",job="node"}': "2x20",
            f'{DRAINED}{{node="n1",user="slurm",reason="{LOWER}",instance="controller"}}': "0x20",
        },
        [{"instance": "n1", "node": "n1", "user": "slurm", "reason": LOWER}],
    ),
    Case(
        "GpuMissing",
        "6m",
        {f'{DRAINED}{{node="n1",user="bob",reason="new GPUs",instance="controller"}}': "0x20"},
    ),
    # The gauge keeps its last number: an old one is none.
    Case("GpuXid", "20m", {'DCGM_FI_DEV_XID_ERRORS{gpu="0",instance="n1"}': "79x30"}),
    Case("GpuXid", "20m", {'DCGM_FI_DEV_XID_ERRORS{gpu="0",instance="n1"}': "0x15 79x15"}, [XID]),
    Case("GpuXid", "40m", {'DCGM_FI_DEV_XID_ERRORS{gpu="0",instance="n1"}': "0x15 79x30"}),
    # The kernel's log counts the second one of the same number, which the gauge does not show.
    Case("GpuXid", "20m", {LOGGED: "5x15 6x15", GAUGE: "79x30"}, [{"pci_bus_id": BUS, "instance": "n1"}]),
    Case(
        "GpuXid", "20m", {LOGGED: "0x15 1x15", GAUGE: "0x15 79x15"}, [{"pci_bus_id": BUS, "instance": "n1"}]
    ),
    Case("GpuXid", "20m", {LOGGED: "5x30", GAUGE: "79x30"}),
    Case("GpuXid", "20m", {GAUGE: f"0x15 {BLANK}x15"}),
    Case("GpuMemoryErrors", "5m", {'DCGM_FI_DEV_ROW_REMAP_FAILURE{gpu="0",instance="n1"}': "1x9"}, [XID]),
    Case("GpuMemoryErrors", "5m", {'DCGM_FI_DEV_ROW_REMAP_FAILURE{gpu="0",instance="n1"}': f"{BLANK}x9"}),
    Case("GpuHot", "6m", {'DCGM_FI_DEV_GPU_TEMP{gpu="0",instance="n1"}': "95x9"}, [XID]),
    Case("GpuHot", "6m", {'DCGM_FI_DEV_GPU_TEMP{gpu="0",instance="n1"}': f"{BLANK}x9"}),
    Case(
        "GpuSilent",
        "4m",
        {'hpcstate_gpu_answers{command="nvidia-smi",instance="n1"}': "0x9"},
        [{"command": "nvidia-smi", "instance": "n1"}],
    ),
    Case("GpuSilent", "9m", {'hpcstate_gpu_answers{command="nvidia-smi",instance="n1"}': "0 0 0 1x9"}),
    Case(
        "GpuGone",
        "6m",
        {REAL: "2x20", "instance:gpus_answering{instance='n1'}": "1x20"},
        [{"instance": "n1"}],
    ),
    Case("GpuGone", "6m", {REAL: "2x20", "instance:gpus_answering{instance='n1'}": "2x20"}),
    # None tells of itself: the series is not there.
    Case("GpuGone", "6m", {REAL: "2x20"}, [{"instance": "n1", "job": "node", "role": "compute"}]),
    Case("GpuGone", "6m", {REAL: "0x20"}),
    Case("GpuSlowed", "11m", {"gpu:slowed{gpu='0',instance='n1'}": "1x20"}, [XID]),
    Case("GpuSlowed", "11m", {"gpu:slowed{gpu='0',instance='n1'}": "0 0 0 1x4 0x20"}),
    Case("GpuMemoryCorrected", "70m", {"gpu:corrected_errors{gpu='0',instance='n1'}": "0+5x90"}, [XID]),
    Case("GpuMemoryCorrected", "70m", {"gpu:corrected_errors{gpu='0',instance='n1'}": "7x90"}),
]


CONTAINERS = "    containers: {deploy: [mpi-minimal]}\n"


def rendered(folder: Path) -> dict[str, str]:
    text = ON.replace("enabled: true\n", "enabled: true\n      gpus: true\n") + CONTAINERS
    return {Path(path).name: text for path, text in server.rules(watched(folder, text)).items()}


def severities(text: str) -> dict[str, str]:
    """Severity by alert."""
    return dict(re.findall(r"alert: (\w+)[\s\S]*?severity: (\w+)", text))


def test_a_cluster_that_is_not_backed_up_by_itself_has_no_alert_of_it(tmp_path: Path) -> None:
    of = watched(tmp_path, "    monitoring: {enabled: true}\n")
    assert not [text for text in server.rules(of).values() if "Backup" in text]


def test_every_alert_has_a_case_that_fires_and_says_what_to_do(tmp_path: Path) -> None:
    text = rendered(tmp_path)["alerts.yml"]
    alerts = re.findall(r"- alert: (\w+)", text)
    assert {case.alert for case in CASES if case.fires} == set(alerts)
    assert text.count("          next: ") == text.count("          summary: ") == len(alerts)


def test_every_metric_of_an_alert_is_told_by_a_program(tmp_path: Path) -> None:
    """A rule on a metric that nobody has is a false promise."""
    text = rendered(tmp_path)["alerts.yml"]
    asked = {name for expr in expressions(text) for name in names_of(expr)}
    assert len(asked) > 30
    known = known_names(watched(tmp_path, DASHBOARDS_ON), tmp_path) | OF_NODE_EXPORTER
    assert asked - known == set()


def test_every_unit_of_an_alert_is_one_that_is_told_of(tmp_path: Path) -> None:
    asked = set(re.findall(r'name="(\w+)\.service"', rendered(tmp_path)["alerts.yml"]))
    assert asked == {"munge", "slurmd", "slurmctld", "slurmdbd", "mariadb"}
    assert asked <= set(units.UNITS_WATCHED)


def expressions(text: str) -> list[str]:
    """The expressions of rules."""
    found = re.findall(r"(?m)^        expr: (?:>-\n((?:          .*\n)+)|(.*)\n)", text)
    return [" ".join((several or one).split()) for several, one in found]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed here")
def test_the_alerts_fire_on_their_faults_and_on_nothing_else(tmp_path: Path) -> None:
    rules = rendered(tmp_path)
    severity = severities(rules["alerts.yml"])
    # What an alert says is not what is tested here.
    (tmp_path / "alerts.yml").write_text(
        re.sub(r"(?m)^        annotations:\n(?:          .*\n)+", "", rules["alerts.yml"])
    )
    tests = [
        {
            "interval": "1m",
            "name": f"{number} {case.alert} at {case.at}",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": case.at,
                    "alertname": case.alert,
                    "exp_alerts": [
                        {"exp_labels": {**each, "severity": severity[case.alert]}} for each in case.fires
                    ],
                }
            ],
        }
        for number, case in enumerate(CASES)
    ]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


INFO = (
    'hpcstate_slurm_job_info{job="slurm",instance="controller",jobid="4",'
    'user="bob",account="ml",partition="gpu"}'
)
OF_NODE = 'jobid="4",job="cgroup",instance="n1"'
"""What a node and Slurm's exporter tell of a job; job 5 is one that slurmctld does not know."""


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed here")
def test_what_nodes_tell_of_a_job_gets_its_user_and_account(tmp_path: Path) -> None:
    (tmp_path / "jobs.yml").write_text(rendered(tmp_path)["jobs.yml"])
    series = {
        INFO: "1x20",
        f"cgroup_memory_used_bytes{{{OF_NODE}}}": "1000x20",
        'cgroup_memory_used_bytes{jobid="4",job="cgroup",instance="n2"}': "3000x20",
        'cgroup_memory_used_bytes{jobid="5",job="cgroup",instance="n2"}': "7x20",
        f"cgroup_cpu_total_seconds{{{OF_NODE}}}": "0+120x20",
        f"cgroup_pressure_memory_stalled_seconds_total{{{OF_NODE}}}": "0+30x20",
    }
    labels = '{jobid="4",job="cgroup",instance="%s",user="bob",account="ml",partition="gpu"}'
    expected: dict[str, list[tuple[str, float]]] = {
        "job:memory_used_bytes": [("n1", 1000), ("n2", 3000)],
        "job:cpus_used": [("n1", 2)],
        "job:pressure_memory_stalled": [("n1", 0.5)],
    }
    case: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": name,
                "eval_time": "15m",
                "exp_samples": [
                    {"labels": name + labels % instance, "value": value} for instance, value in samples
                ],
            }
            for name, samples in expected.items()
        ],
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": ["jobs.yml"], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_of_jobs_asks_for_what_the_nodes_tell(tmp_path: Path) -> None:
    asked = set(re.findall(r"\bcgroup_\w+", rendered(tmp_path)["jobs.yml"].partition("groups:")[2]))
    told = set(re.findall(r'"(cgroup_\w+)"', Path(str(job_exporter.__file__)).read_text()))
    assert asked - told == {name for name in asked if name.startswith("cgroup_pressure_")}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed here")
def test_what_the_alerts_say_is_text_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(rendered(tmp_path)["alerts.yml"])
    case = {
        "interval": "1m",
        "input_series": [
            {
                "series": f'{DRAINED}{{node="n1",user="bob",reason="fan"}}',
                "values": "0x900",
            }
        ],
        "alert_rule_test": [
            {
                "eval_time": "13h",
                "alertname": "NodeDrained",
                "exp_alerts": [
                    {
                        "exp_labels": {"node": "n1", "user": "bob", "reason": "fan", "severity": "warning"},
                        "exp_annotations": {
                            "summary": "n1 is drained for 13h 0m 0s, by bob: fan",
                            "next": "scontrol update node=NODE state=resume gives it back, "
                            "once the reason is gone",
                        },
                    }
                ],
            }
        ],
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": [case]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed here")
def test_an_alert_names_the_last_xids_of_that_node_alone(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(rendered(tmp_path)["alerts.yml"])
    series = {
        LOGGED: "0x15 1x15",
        GAUGE: "0x15 79x15",
        'DCGM_FI_DEV_XID_ERRORS{gpu="0",instance="n2"}': "31x30",
        'DCGM_FI_DEV_XID_ERRORS{gpu="1",instance="n1"}': "0x30",
    }
    summary = "a new Xid on n1; the last of its GPUs: 79 (GPU 0)"
    labels = {"pci_bus_id": BUS, "instance": "n1", "severity": "warning"}
    nexts = "hpcstate inventory gpus FILE says what this number means"
    case: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "20m",
                "alertname": "GpuXid",
                "exp_alerts": [
                    {"exp_labels": labels, "exp_annotations": {"summary": summary, "next": nexts}}
                ],
            }
        ],
    }
    judge(tmp_path, "alerts.yml", case)


REASONS = "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed here")
def test_rules_of_gpus_leave_out_what_dcgm_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "gpus.yml").write_text(rendered(tmp_path)["gpus.yml"])
    of = 'instance="n1",gpu="%s"'
    series = {
        f"DCGM_FI_DEV_GPU_UTIL{{{of % 0}}}": "50x9",
        f"DCGM_FI_DEV_GPU_UTIL{{{of % 1}}}": f"{BLANK}x9",
        f"DCGM_FI_DEV_FB_USED{{{of % 0}}}": "1024x9",
        f"DCGM_FI_DEV_FB_FREE{{{of % 0}}}": f"{BLANK}x9",
        f"DCGM_FI_DEV_GPU_TEMP{{{of % 0}}}": "40x9",
        # Two instances of one GPU that is split.
        f'DCGM_FI_DEV_GPU_TEMP{{{of % 1},GPU_I_ID="3"}}': "41x9",
        f'DCGM_FI_DEV_GPU_TEMP{{{of % 1},GPU_I_ID="4"}}': "41x9",
        # Idle and power cap are how a healthy one works; heat and the power brake are not.
        **{f"{REASONS}{{{of % gpu}}}": f"{bits}x9" for gpu, bits in enumerate((0x5, 0x44, 0x20, 0x80, 0x8))},
        f"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{{{of % 7}}}": "8x9",
    }
    slowed = [(of % gpu, float(gpu != 0)) for gpu in (0, 1, 2, 3, 4, 7)]
    expected: dict[str, list[tuple[str, float]]] = {
        "gpu:utilization": [(of % 0, 0.5)],
        "gpu:memory_used_bytes": [(of % 0, 1 << 30)],
        "gpu:memory_bytes": [],
        "instance:gpus_answering": [('instance="n1"', 2)],
        "gpu:slowed": slowed,
    }
    case: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": name,
                "eval_time": "8m",
                "exp_samples": [{"labels": f"{name}{{{each}}}", "value": value} for each, value in samples],
            }
            for name, samples in expected.items()
        ],
    }
    judge(tmp_path, "gpus.yml", case)


def judge(folder: Path, rules: str, case: dict[str, object]) -> None:
    file = folder / "tests.yml"
    file.write_text(json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
