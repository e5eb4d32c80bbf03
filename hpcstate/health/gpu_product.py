"""Run in a container with PyTorch on a node with GPUs: ``product`` multiplies matrices of small whole numbers
on each GPU and compares with the exact result; ``nccl`` sums over all GPUs of the node.

Whole numbers below 2**24 are exact in float32 (IEEE 754), so that a single wrong bit shows.
"""

import json
import os
import sys
import time
from typing import Any

import torch

SIZE = 4096
ROUNDS = 10


def product() -> dict[str, Any]:
    torch.backends.cuda.matmul.allow_tf32 = False
    wrong, slowest = 0, None
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        torch.manual_seed(index)
        left = torch.randint(-8, 9, (SIZE, SIZE), device=device).float()
        vector = torch.randint(-3, 4, (SIZE, 1), device=device).double()
        right = torch.randint(-8, 9, (SIZE, SIZE), device=device).float()
        # (left right) v is left (right v), which double precision has exactly.
        exact = left.double() @ (right.double() @ vector)
        best = 0.0
        for _ in range(ROUNDS):
            torch.cuda.synchronize(device)
            begun = time.monotonic()
            made = left @ right
            torch.cuda.synchronize(device)
            best = max(best, 2 * SIZE**3 / (time.monotonic() - begun) / 1e12)
            wrong += int((made.double() @ vector != exact).sum())
        slowest = best if slowest is None else min(slowest, best)
    return {"gpu_tflop_s": slowest or 0.0, "gpus": torch.cuda.device_count(), "wrong": wrong}


def _sum(rank: int, size: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("nccl", rank=rank, world_size=size)
    torch.cuda.set_device(rank)
    value = torch.full((1 << 24,), float(rank + 1), device="cuda")
    torch.distributed.all_reduce(value)
    good = bool((value == size * (size + 1) / 2).all())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if not good:
        sys.exit(1)


def nccl() -> dict[str, Any]:
    size = torch.cuda.device_count()
    try:
        torch.multiprocessing.spawn(_sum, args=(size, 29400 + os.getpid() % 500), nprocs=size)
    except Exception as error:
        return {"wrong": 1, "why": str(error).strip().rpartition("\n")[2]}
    return {"wrong": 0, "gpus": size}


if __name__ == "__main__":
    print(json.dumps({"product": product, "nccl": nccl}[sys.argv[1]]()))
