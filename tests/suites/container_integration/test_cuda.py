"""CUDA and NCCL in containers, where real GPUs are: simulated ones have no driver (TASK-026)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.check.jobs import on, pair, srun, together
from hpcstate.check.suite import CheckFailed, RecordProperty, fault, real_gpus
from hpcstate.model import Node
from hpcstate.node.ssh import Live
from tests.suites.breaking import Edit, edited
from tests.suites.container_integration import test_training as training
from tests.suites.container_integration.test_environment import demand_environment
from tests.suites.containers import WRAPPER, in_container
from tests.suites.slurm import reports

CONTAINER = "pytorch-cuda12.1-mpi4.1"

_PROGRAM = """
import json, socket, torch
found = {"host": socket.gethostname(), "available": torch.cuda.is_available()}
found["count"] = torch.cuda.device_count()
if found["available"]:
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    product = (a.cuda() @ b.cuda()).cpu()
    held = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    found |= {"agrees": torch.allclose(product, a @ b, atol=0.05), "name": torch.cuda.get_device_name(0)}
    found |= {"cuda": torch.version.cuda, "held": torch.cuda.memory_allocated() >= held.numel()}
print(json.dumps(found))
"""


@pytest.mark.needs(real_gpus=1, containers=(CONTAINER,))
def test_cuda(live: Live, nodes: tuple[Node, ...], record_property: RecordProperty) -> None:
    """PyTorch in a container finds the job's GPU, and no other, takes memory of it and computes on it"""
    node = next(node for node in nodes if real_gpus(node))
    words = (*on(live, node), "--ntasks=1", "--gres=gpu:1", "--mem=4G")
    (seen,) = reports(srun(live, words, in_container(CONTAINER, "python3", "-c", _PROGRAM), seconds=300))
    if not (seen["available"] and seen["count"] == 1 and seen.get("agrees") and seen.get("held")):
        raise CheckFailed(
            "one CUDA device, memory of it, and a product of matrices like the CPU's",
            ", ".join(f"{name}: {value}" for name, value in seen.items()),
            "`srun --gres=gpu:1 nvidia-smi` works? container-exec adds --nv only for a job with a GPU",
        )
    record_property("observed", f"{seen['host']}: {seen['name']}, CUDA {seen['cuda']}")


@pytest.mark.needs(nodes=2, real_gpus=1, containers=(CONTAINER,))
def test_nccl(live: Live, record_property: RecordProperty) -> None:
    """A model is trained over NCCL on two nodes with a GPU each"""
    nodes = pair(live, [node for node in live.workers if real_gpus(node)])
    program = Path(__file__).with_name("_training.py").read_text()
    words = (*together(live, nodes)[0], "--ntasks-per-node=1", "--gres=gpu:1", "--mem=4G")
    text = srun(live, words, in_container(CONTAINER, "python3", "-c", program, "nccl"), seconds=300)
    ranks = sorted(reports(text), key=lambda report: int(report["slurm_rank"]))
    demand_environment(ranks, [node.name for node in nodes])
    training.demand_sum(ranks)
    training.demand_learning(ranks)
    record_property(
        "observed", f"{len(ranks)} ranks, loss {ranks[0]['first_loss']:.3g} to {ranks[0]['last_loss']:.2g}"
    )


def without_nv(text: str) -> str:
    """The wrapper as if no job had a GPU."""
    return text.replace("if has_gpu;", "if false;")


@fault(
    "container-exec gives no container a GPU",
    "container-integration.cuda",
    "container-integration.nccl",
)
def no_gpu(live: Live) -> Iterator[None]:
    with edited(live, [Edit(node.name, WRAPPER, without_nv) for node in live.workers if real_gpus(node)]):
        yield
