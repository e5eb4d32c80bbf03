"""GPUs on the node: the errors are those of hpcstate's findings, with no rule of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.gpu.findings import findings, read_host
from hpcstate.health import gpus
from hpcstate.probe import gpu, nvidia_smi, nvidia_topology, xid

ROW = "0, GPU-1b, NVIDIA H100 80GB HBM3, P0, 34, 0, 4, 81559, [N/A]\n"


def test_the_errors_of_a_node_are_the_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "gpu": "bus 0000:01:00.0\n",
        "smi": "",
        "xid": "== journal\n",
    }

    def ask(command: str) -> str:
        asked.append(command)
        return (
            said["gpu"]
            if command == gpu.command()
            else said["xid"]
            if command == xid.command()
            else said["smi"]
        )

    asked: list[str] = []
    monkeypatch.setattr(gpus, "on_the_bus", lambda: 1)
    monkeypatch.setattr(nvidia_smi, "parse", lambda _: SMI)
    monkeypatch.setattr(nvidia_topology, "parse", lambda _: {"state": "absent", "gpus": []})
    mine = list(gpus.errors("a", ask))
    theirs = [each for each in findings("a", read_host(ask)) if each.severity == "error"]
    assert mine == [(each.what, each.address) for each in theirs] and len(mine) == 1
    assert "the kernel module is not loaded" in mine[0][0]
    # Each call of nvidia-smi ends long before slurmd ends the whole.
    assert sum(f"limit={gpus.LIMIT}" in command for command in asked) == 2


def test_words_that_are_not_understood_hide_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Xid in a form of a driver to come, beside a GPU that nvidia-smi cannot open."""
    lost = "Unable to determine the device handle for GPU0: 0000:01:00.0: GPU is lost."
    said = {
        gpu.command(): "driver NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  R\n"
        "bus 0000:01:00.0\ngpu 0000:01:00.0|0x2330|0|0-7|NVIDIA H100|No\nnode c3 0 /dev/nvidia0\n",
        xid.command(): "== journal\n1.0 n kernel: NVRM: Xid (PCI:0000:01:00): abc, words\n",
        nvidia_smi.command(limit=gpus.LIMIT): f"== query\n{lost}\n== end 15\n",
    }
    monkeypatch.setattr(gpus, "on_the_bus", lambda: 1)
    ((what, address),) = gpus.errors("a", lambda command: said.get(command, ""))
    assert ("GPU is lost" in what, address) == (True, "0000:01:00.0")
    said[nvidia_smi.command(limit=gpus.LIMIT)] = ""
    with pytest.raises(HpcstateError, match="an Xid in an unknown form"):
        list(gpus.errors("a", lambda command: said.get(command, "")))


SMI = {
    "state": "absent",
    "code": 0,
    "message": "",
    "driver_version": "",
    "library_version": "",
    "lost": [],
    "gpus": [],
}


def test_nvidia_smis_words_become_values() -> None:
    (found,) = gpus.csv(ROW)
    assert (found["index"], found["name"], found["memory.used"]) == (0, "NVIDIA H100 80GB HBM3", 4)
    assert found["ecc.errors.uncorrected.volatile.total"] is None
    assert gpus.csv("No devices were found\n") == []
    # A GPU that waits for a reset, and GB10, whose memory is the system's; brackets differ between drivers.
    waits = "1, GPU-b, NVIDIA H200 NVL, [GPU requires reset], [GPU requires reset], [N/A], 0, 143771, [N/A]"
    shared = "0, GPU-c, NVIDIA GB10, P0, 41, 0, N/A, [Not Supported], N/A"
    first, second = gpus.csv(f"{waits}\n{shared}\n")
    assert (first["pstate"], first["temperature.gpu"], first["utilization.gpu"]) == (
        "GPU requires reset",
        "GPU requires reset",
        None,
    )
    assert [second[name] for name in ("memory.used", "memory.total", "temperature.gpu")] == [None, None, 41]


@pytest.mark.parametrize(
    ("text", "count"), [('{"count": 2, "gres_type": "x"}', 2), ("{}", 0), ("nonsense", 0), ("[]", 0)]
)
def test_simulated_gpus_are_marked(text: str, count: int) -> None:
    found = gpus._simulated(text)
    assert len(found) == count and all(each["simulated"] for each in found)


_: Callable[..., object] = gpus.state
