"""A process for each GPU adds its number by torch.distributed over NCCL."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def work(rank: int, size: int) -> None:
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=size)
    total = torch.tensor([rank + 1.0], device="cuda")
    dist.all_reduce(total)
    expected = size * (size + 1) / 2
    if total.item() != expected:
        raise SystemExit(f"rank {rank} has {total.item()}, the sum is {expected}")
    if rank == 0:
        print(f"{size} GPUs: sum {total.item():.0f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    gpus = torch.cuda.device_count()
    if not gpus:
        raise SystemExit("torch sees no GPU")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29512"}
    mp.spawn(work, args=(gpus,), nprocs=gpus)
