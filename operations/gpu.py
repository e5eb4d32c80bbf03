"""Simulated GPUs: device nodes with the numbers of NVIDIA's, and no hardware behind them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.gpu import GpuDevices
from facts.slurm import SlurmJobs
from facts.text_files import TextFiles
from hpcstate.node.managed import Managed
from hpcstate.probe.gpu import MARKER
from hpcstate.probe.text_files import TextFileState
from hpcstate.slurm import gres
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host, write_file
from operations.util.difference import FileWritten

TMPFILES = "/etc/tmpfiles.d/hpcstate-simulated-gpu.conf"

MANAGED = (
    Managed(
        "gpu.simulated",
        "device nodes of simulated GPUs, and the files that make them at boot",
        "/dev/nvidia0 …, /etc/tmpfiles.d/hpcstate-simulated-gpu.conf, /etc/hpcstate/simulated-gpus.json",
        "kind and numbers of the nodes, content of the files",
        "mended",
    ),
)


@operation()
def simulated_devices(
    node: str, count: int, gres_type: str = "simulated"
) -> Generator[PyinfraCommand, None, None]:
    """``node`` has ``count`` simulated GPUs, now and after every boot, and says so in a marker.

    ``count`` 0 removes what was made before. Refused where NVIDIA's driver is loaded, whose own the
    device nodes would be, and where fewer devices are wanted while jobs hold the node.
    """
    files = host.get_fact(TextFiles, paths=(TMPFILES, MARKER))
    if not count and not files:
        host.noop(f"{node} has no simulated GPUs")
        return
    gpus = host.get_fact(GpuDevices)
    if gpus["driver"] and not count:
        difference.show_removed(files)
        yield StringCommand("rm -f", TMPFILES, MARKER)
        return
    if gpus["driver"]:
        yield stop_host(
            f"{node} has NVIDIA's driver {gpus['driver']}: GPUs cannot be simulated beside real ones.\n"
            "Remove simulated_gpus from this node in the cluster file."
        )
        return
    wanted = _files(count, gres_type)
    present = [device["file"] for device in gpus["devices"]]
    if gpus["devices"] == gres.simulated_devices(count, gres_type) and _are(files, wanted):
        host.noop(f"{node} has {count} simulated GPUs")
        return
    surplus = [file for file in present if int(re.sub(r"\D", "", file)) >= count]
    if surplus and (jobs := host.get_fact(SlurmJobs, node=node)):
        yield stop_host(
            f"jobs {', '.join(map(str, jobs))} hold {node}: {', '.join(surplus)} cannot go under them.\n"
            "deploys/full_stack.py drains the node first."
        )
        return
    if not count:
        difference.show_removed([*files, *surplus])
        yield StringCommand("rm -f", TMPFILES, MARKER, *surplus)
        return
    difference.show(FileWritten(path, content) for path, content in wanted.items())
    for path, content in wanted.items():
        yield write_file(path, content)
    if surplus:
        yield StringCommand("rm -f", *surplus)
    yield StringCommand("systemd-tmpfiles --create", TMPFILES)


def _files(count: int, gres_type: str) -> dict[str, str]:
    """The tmpfiles.d(5) file that makes the device nodes at boot, and the marker."""
    lines = [
        f"c {device['file']} 0666 root root - {device['major']}:{device['minor']}"
        for device in gres.simulated_devices(count, gres_type)
    ]
    header = "# Simulated GPUs, made by hpcstate: device nodes without hardware behind them."
    return {
        TMPFILES: "\n".join((header, *lines, "")),
        MARKER: json.dumps({"gres_type": gres_type, "count": count}) + "\n",
    }


def _are(files: dict[str, TextFileState], wanted: dict[str, str]) -> bool:
    digests = {path: hashlib.sha256(content.encode()).hexdigest() for path, content in wanted.items()}
    return {path: state["sha256"] for path, state in files.items()} == digests
