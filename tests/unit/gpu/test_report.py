"""``hpcstate inventory gpus``: what is read of the nodes, the table, the data, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.cli import COULD_NOT_RUN, FINDINGS, OK, main
from hpcstate.errors import HpcstateError
from hpcstate.gpu import report as gpu_report
from hpcstate.gpu.report import NodeReport
from hpcstate.model import Cluster
from hpcstate.model.gpu import PassthroughDevice
from hpcstate.paths import ROOT, ClusterPaths
from hpcstate.probe import gpu as gpu_probe
from hpcstate.probe import nvidia_smi, nvidia_topology, xid
from hpcstate.run import Result
from tests.unit.fake_live import FakeLive, a_cluster, a_node, failing
from tests.unit.gpu_hosts import FIRST, SECOND, a_gpu, a_host, a_simulated_host, an_smi, some_gpus

GPU = str(ROOT / "inventories/gpu.yaml")
NODE = a_node("compute-01", 11)
REAL = replace(
    a_node("compute-01", 11, gpus=0),
    passthrough=tuple(
        PassthroughDevice(address, "gpu", "10de", "2330", gres_type="h100") for address in (FIRST, SECOND)
    ),
)
MARKER = 'marker {"gres_type": "simulated", "count": 2}\nnode c3 0 /dev/nvidia0\nnode c3 1 /dev/nvidia1\n'
SMI = (ROOT / "tests/facts/gpu.NvidiaSmi/normal_turing_418.txt").read_text()
DRIVER = (
    "driver NVRM version: NVIDIA UNIX x86_64 Kernel Module  418.43  Sun Feb 10 21:14:59 CST 2019\n"
    "gpu 0000:43:00.0|0x2184|0|0-15|Graphics Device\nbus 0000:43:00.0\nnode c3 0 /dev/nvidia0\n"
)
TOPOLOGY = "== topo\n\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-15\t0\n== end 0\n"
SIMULATED = {
    gpu_probe.command(): MARKER,
    nvidia_smi.command(): "",
    nvidia_topology.command(): "",
    xid.command(): "",
}
TURING = {
    gpu_probe.command(): DRIVER,
    nvidia_smi.command(): SMI,
    nvidia_topology.command(): TOPOLOGY,
    xid.command(): "== journal\n",
}


Answers = Mapping[str, Mapping[str, str] | HpcstateError | Result]
"""By node: what it answers to each command, or to every one."""


def table(report: NodeReport) -> list[list[str]]:
    """The cells of the table's rows; a cell has two blanks before it."""
    lines = gpu_report.as_text([report]).split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_simulated_gpus_are_marked() -> None:
    report = gpu_report.report(NODE, a_simulated_host())
    assert [(gpu.file, gpu.gres_type, gpu.state) for gpu in report.gpus] == [
        ("/dev/nvidia0", "simulated", "SIMULATED"),
        ("/dev/nvidia1", "simulated", "SIMULATED"),
    ]
    assert report.findings == ()
    assert gpu_report.exit_code([report]) == 0
    assert gpu_report.as_text([report]).count("SIMULATED") == 2


def test_a_healthy_node_is_a_table() -> None:
    report = gpu_report.report(REAL, a_host())
    assert table(report) == [
        ["NODE", "GPU", "TYPE", "NAME", "FILE", "PCI", "NUMA", "CPUS", "MIG", "PERSISTENCE", "STATE"],
        *(
            [
                *(
                    "compute-01",
                    str(number),
                    "2330",
                    "NVIDIA H100 80GB HBM3",
                    f"/dev/nvidia{number}",
                    address,
                ),
                *(str(number), cpus, "off", "Enabled", "ok"),
            ]
            for number, address, cpus in ((0, FIRST, "0-23"), (1, SECOND, "24-47"))
        ),
    ]
    assert gpu_report.exit_code([report]) == 0


def test_errors_are_told_and_decide_the_exit_code() -> None:
    smi = an_smi(a_gpu(recovery_action="Reset"), a_gpu(1, SECOND, persistence_mode="Disabled"))
    report = gpu_report.report(REAL, a_host(smi=smi))
    assert [gpu.state for gpu in report.gpus] == ["error", "warning"]
    text = gpu_report.as_text([report])
    assert f"\nerror: compute-01, GPU 0 ({FIRST}): the driver asks for: Reset\n  -> " in text
    assert text.index("error: ") < text.index("warning: ")
    assert gpu_report.exit_code([report]) == 1


def test_warnings_alone_are_no_failure() -> None:
    smi = an_smi(a_gpu(persistence_mode="Disabled"), a_gpu(1, SECOND))
    report = gpu_report.report(REAL, a_host(smi=smi))
    assert (len(report.findings), gpu_report.exit_code([report])) == (1, 0)


def test_a_gpu_without_device_file_is_shown() -> None:
    gpus = some_gpus(
        devices=some_gpus()["devices"][:1], nodeless=[{"address": SECOND, "file": "/dev/nvidia1"}]
    )
    report = gpu_report.report(REAL, a_host(gpus))
    assert [(gpu.address, gpu.file, gpu.state) for gpu in report.gpus] == [
        (FIRST, "/dev/nvidia0", "error"),  # the node lacks a declared GPU
        (SECOND, "", "error"),
    ]


def test_a_gpu_that_only_the_bus_has_is_shown() -> None:
    report = gpu_report.report(REAL, a_host(some_gpus(driver="", devices=[]), nvidia_smi.parse("")))
    assert [(gpu.address, gpu.name, gpu.state) for gpu in report.gpus] == [
        (FIRST, "", "error"),
        (SECOND, "", "error"),
    ]


def test_less_than_declared_is_an_error() -> None:
    report = gpu_report.report(
        replace(NODE, simulated_gpus=None, passthrough=REAL.passthrough), a_simulated_host()
    )
    assert report.findings[0].severity == "error"
    assert "compute-01 declares 2 GPUs" in report.findings[0].what
    assert gpu_report.exit_code([report]) == 1


def test_a_node_that_declares_no_gpu_and_has_none() -> None:
    empty = replace(a_simulated_host(), gpus=gpu_probe.parse(""))
    report = gpu_report.report(a_node("compute-01", 11, gpus=0), empty)
    assert table(report)[1][-1] == "no GPU"
    assert gpu_report.exit_code([report]) == 0


@pytest.mark.parametrize(
    ("profiles", "mode", "shown"),
    [
        (["3g.20gb", "1g.5gb", "3g.20gb"], "Enabled", "2x 3g.20gb, 1g.5gb"),
        ([""], "Enabled", "?"),
        ([], "Enabled", "on"),
        ([], "Disabled", "off"),
        ([], "", "-"),
    ],
)
def test_mig_in_the_table(profiles: list[str], mode: str, shown: str) -> None:
    devices = [
        {"index": n, "gpu_instance": n, "compute_instance": 0, "profile": p, "uuid": "", "memory_mib": None}
        for n, p in enumerate(profiles)
    ]
    smi = an_smi(a_gpu(mig_mode=mode, mig_mode_pending=mode, mig_devices=devices), a_gpu(1, SECOND))
    assert table(gpu_report.report(REAL, a_host(smi=smi)))[1][8] == shown


def answering(answers: Answers) -> FakeLive:
    """Nodes that answer the commands of the facts, or with the same to each."""

    def answer(node: str, script: str) -> Result | HpcstateError | str:
        found = answers[node]
        return found[script] if isinstance(found, Mapping) else found

    return FakeLive(answer)


def test_nodes_are_read_as_root_and_only_the_workers() -> None:
    nodes = answering({"compute-01": SIMULATED, "compute-02": SIMULATED})
    reports = gpu_report.read_nodes(nodes)
    assert [(node_report.node, node_report.error, len(node_report.gpus)) for node_report in reports] == [
        ("compute-01", "", 2),
        ("compute-02", "", 2),
    ]
    assert {user for _, user, _ in nodes.scripts} == {"root"}
    assert {node for node, _, _ in nodes.scripts} == {"compute-01", "compute-02"}


def test_one_silent_node_leaves_the_others(tmp_path: Path) -> None:
    nodes = answering({"compute-01": SIMULATED, "compute-02": HpcstateError("no route to host")})
    reports = gpu_report.read_nodes(nodes)
    assert [node_report.error for node_report in reports] == ["", "no route to host"]
    assert gpu_report.exit_code(reports) == 1
    assert "error: compute-02 could not be read: no route to host" in gpu_report.as_text(reports)


@pytest.mark.parametrize("wrong", [HpcstateError("no route to host"), failing(1)])
def test_no_node_that_could_be_read(wrong: HpcstateError | Result) -> None:
    reports = gpu_report.read_nodes(answering({"compute-01": wrong, "compute-02": wrong}))
    assert gpu_report.exit_code(reports) == 2


def test_an_answer_that_is_not_whole_is_an_unread_node() -> None:
    cut = {**SIMULATED, nvidia_smi.command(): "== query\n<nvidia_smi_log>\n== end 0"}
    reports = gpu_report.read_nodes(answering({"compute-01": cut, "compute-02": SIMULATED}))
    assert "not whole" in reports[0].error
    assert gpu_report.exit_code(reports) == 1


def test_a_real_gpu_from_the_commands_to_the_data() -> None:
    reports = gpu_report.read_nodes(answering({"compute-01": TURING, "compute-02": SIMULATED}))
    data = json.loads(json.dumps(gpu_report.as_data(reports)))
    gpu = data[0]["gpus"][0]
    assert (data[0]["driver"], gpu["name"], gpu["file"]) == ("418.43", "Graphics Device", "/dev/nvidia0")
    assert gpu["topology"]["cpu_affinity"] == "0-15"
    assert gpu["smi"]["uuid"] == "GPU-304a277d-3545-63b8-3a36-dfde3c992989"
    whats = [finding["what"] for finding in data[0]["findings"]]
    assert any("declares 2 GPUs" in what for what in whats)
    assert any("persistence mode is off" in what for what in whats)


def command_line(monkeypatch: pytest.MonkeyPatch, answers: Answers, *words: str) -> int:
    """The exit code of ``hpcstate inventory gpus`` where the nodes answer ``answers``."""
    nodes = answering(answers)

    def fake(cluster: Cluster) -> FakeLive:
        return FakeLive(nodes.answer, cluster)

    monkeypatch.setattr(gpu_report, "Live", fake)
    monkeypatch.setattr(ClusterPaths, "ssh_key", Path(__file__))
    return main(["inventory", "gpus", GPU, *words])


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    both = {"compute-01": SIMULATED, "compute-02": SIMULATED}
    assert command_line(monkeypatch, both) == OK
    assert capsys.readouterr().out.count("SIMULATED") == 4
    assert command_line(monkeypatch, both, "--json") == OK
    data = json.loads(capsys.readouterr().out)
    assert [node_report["node"] for node_report in data["gpu"]] == ["compute-01", "compute-02"]
    assert data["gpu"][0]["gpus"][0]["simulated"] is True


def test_the_command_fails_for_errors_and_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {**SIMULATED, gpu_probe.command(): ""}
    assert command_line(monkeypatch, {"compute-01": lost, "compute-02": SIMULATED}) == FINDINGS
    silent = HpcstateError("no route to host")
    assert command_line(monkeypatch, {"compute-01": silent, "compute-02": silent}) == COULD_NOT_RUN


def test_a_cluster_that_was_never_started(capsys: pytest.CaptureFixture[str]) -> None:
    reports = gpu_report.read(replace(a_cluster(NODE), name="never-started"))
    assert [node_report.node for node_report in reports] == ["compute-01"]
    assert "there is no key" in reports[0].error
    assert gpu_report.exit_code(reports) == 2
