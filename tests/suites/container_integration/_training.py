"""Runs in each task of the job, in the container: all_reduce, then a short DistributedDataParallel training.

Each rank has other data for the same line; what they learn is one model. Prints a line of JSON, also when the
environment of torch.distributed is not there: container-integration.environment says what is missing.
"""

import json
import os
import socket
import sys
from datetime import timedelta

NAMES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
STEPS = 20

report: dict[str, object] = {
    "host": socket.gethostname(),
    "slurm_rank": os.environ.get("SLURM_PROCID"),
}


def tell() -> None:
    print(json.dumps(report) + "\n", end="", flush=True)


if not all(os.environ.get(name) for name in NAMES):
    tell()
    sys.exit(0)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

backend = sys.argv[1]
device = torch.device("cuda", 0) if backend == "nccl" else torch.device("cpu")
torch.set_num_threads(1)
dist.init_process_group(backend, timeout=timedelta(seconds=90))
rank, size = dist.get_rank(), dist.get_world_size()
total = torch.tensor([rank + 1.0], device=device)
dist.all_reduce(total)

torch.manual_seed(1 + rank)
points = torch.randn(64, 3, device=device)
wanted = points @ torch.tensor([[2.0], [-1.0], [0.5]], device=device) + 3.0
model = DistributedDataParallel(torch.nn.Linear(3, 1).to(device))
optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
losses = []
for _ in range(STEPS):
    optimiser.zero_grad()
    loss = torch.nn.functional.mse_loss(model(points), wanted)
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
report |= {
    "torch": torch.__version__,
    "rank": rank,
    "size": size,
    "sum": total.item(),
    "first_loss": losses[0],
    "last_loss": losses[-1],
    "parameters": [
        round(value, 6) for parameter in model.parameters() for value in parameter.flatten().tolist()
    ],
}
# A rank that ends while another still talks to it would abort that one.
dist.barrier()
dist.destroy_process_group()
tell()
