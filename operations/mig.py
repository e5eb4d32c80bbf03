"""MIG instances of a node's GPUs: made by nvidia-smi, now and at every boot."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.gpu import GpuDevices
from facts.slurm import SlurmJobs
from facts.text_files import TextFiles
from hpcstate.gpu import mig
from hpcstate.node.managed import Managed
from hpcstate.slurm.gres import DeclaredGres
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import stop_host, write_file
from operations.util.difference import FileWritten
from operations.util.drain import listed

MANAGED = (
    Managed(
        "mig",
        "MIG instances of the GPUs",
        "the driver",
        "/proc/driver/nvidia/capabilities and nvidia-smi, against the cluster file",
        "mended",
        "a GPU with MIG",
    ),
)


@operation()
def instances(node: str, declared: DeclaredGres) -> Generator[PyinfraCommand, None, None]:
    """The GPUs of ``node`` are split into the MIG instances that are ``declared``; those without are whole.

    Refused while jobs hold the node: instances are taken from their jobs. Once no GPU is declared with
    instances, what this operation made before is undone.
    """
    files = host.get_fact(TextFiles, paths=mig.FILES)
    if not files and not any(gpu.mig for gpu in declared.gpus):
        host.noop(f"{node} declares no MIG instances")
        return
    gpus = host.get_fact(GpuDevices)
    wanted = mig.wanted(declared, gpus)
    content = mig.files(wanted)
    right = {path: state["sha256"] for path, state in files.items()} == {
        path: hashlib.sha256(text.encode()).hexdigest() for path, text in content.items()
    }
    others = mig.different(declared, gpus)
    if right and not others:
        host.noop(f"the GPUs of {node} are split as declared")
        return
    if others and (jobs := host.get_fact(SlurmJobs, node=node)):
        yield stop_host(
            f"jobs {listed(jobs)} hold {node}: {', '.join(others)} cannot be split under them.\n"
            "deploys/full_stack.py drains the node first."
        )
        return
    difference.show(FileWritten(path, text) for path, text in content.items())
    for path, text in content.items():
        yield write_file(path, text, "755" if path == mig.SCRIPT else "644")
    yield StringCommand(mig.SCRIPT)
    if any(wanted.values()):
        yield StringCommand(f"systemctl daemon-reload && systemctl enable --quiet {mig.UNIT}")
        return
    yield StringCommand(f"systemctl disable --quiet {mig.UNIT}")
    yield StringCommand("rm -f", *mig.FILES)
