"""A container has the libraries of NVIDIA's driver when its job has a GPU, and only then (`apptainer --nv`).

The lab's GPUs are simulated. What stands in for their driver on one node, for this module: the folder in
/proc that the driver's module makes, and a libcuda.so.1 that finds no device.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hpcstate.check.jobs import on, srun
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from tests.suites.breaking import Edit, edited
from tests.suites.containers import WRAPPER, in_container
from tests.suites.slurm import reports

without_nv = import_module("tests.suites.container_integration.test_cuda").without_nv

CONTAINER = "mpi-minimal"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE; what libcuda 550.163.01 says on such a node too."""

SOURCE = f"int cuInit(unsigned flags) {{ return flags ? 1 : {NO_DEVICE}; }}\n"

APPEARS = """
set -e
base64 -d >{library} <<'END'
{content}
END
ldconfig
mount -t tmpfs -o mode=755 hpcstate-test /proc/driver
mkdir /proc/driver/nvidia
"""

DISAPPEARS = f"umount /proc/driver; rm -f {LIBRARY}; ldconfig"

PROGRAM = """
import ctypes, errno, glob, json, os
def opened(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "OK"
try:
    found = ctypes.CDLL("libcuda.so.1").cuInit(0)
except OSError:
    found = None
devices = {path: opened(path) for path in glob.glob("/dev/nvidia[0-9]")}
print(json.dumps({"cuInit": found, "devices": devices}))
"""


@pytest.fixture
def node(live: Live, tmp_path: Path) -> Iterator[Node]:
    """A node that seems to have NVIDIA's driver."""
    if CONTAINER not in live.cluster.containers.deploy:
        pytest.skip(f"needs the container {CONTAINER}, which the cluster file does not deploy")
    library = tmp_path / "libcuda.so.1"
    words = ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{library.name}", "-x", "c", "-", "-o", str(library)]
    subprocess.run(words, input=SOURCE, text=True, check=True)
    chosen = live.workers[0]
    content = base64.encodebytes(library.read_bytes()).decode()
    try:
        live.run(chosen.name, APPEARS.format(library=LIBRARY, content=content), user="root")
        yield chosen
    finally:
        live.run(chosen.name, DISAPPEARS, user="root")


def seen(live: Live, node: Node, *arguments: str) -> dict[str, Any]:
    """What a task with ``arguments`` of srun finds in its container."""
    words = (*on(live, node), "--ntasks=1", "--mem=500", *arguments)
    (found,) = reports(srun(live, words, in_container(CONTAINER, "python3", "-c", PROGRAM), seconds=60))
    return dict(found)


def test_a_container_has_the_drivers_libraries_for_the_gpu_of_its_job(live: Live, node: Node) -> None:
    # A simulated device is there and has nothing behind it: it may be opened, and that fails with ENXIO.
    with_gpu = seen(live, node, "--gres=gpu:1")
    assert with_gpu["cuInit"] == NO_DEVICE
    assert sorted(with_gpu["devices"].values()) == ["ENXIO", "EPERM"]
    without = seen(live, node)
    assert without["cuInit"] is None
    assert set(without["devices"].values()) == {"EPERM"}
    # Both can fail: by a wrapper that never asks for them, and by one that always does.
    with edited(live, [Edit(node.name, WRAPPER, without_nv)]):
        assert seen(live, node, "--gres=gpu:1")["cuInit"] is None
    with edited(live, [Edit(node.name, WRAPPER, lambda text: text.replace("if has_gpu;", "if true;"))]):
        assert seen(live, node)["cuInit"] == NO_DEVICE
