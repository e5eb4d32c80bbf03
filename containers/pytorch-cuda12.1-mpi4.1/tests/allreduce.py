"""Each rank sends its number, 2^20 times over: 8 MiB, far above what one packet of shared memory holds."""

from array import array

from mpi4py import MPI

COUNT = 1 << 20

world = MPI.COMM_WORLD
mine = array("d", [world.rank + 1.0]) * COUNT
total = array("d", [0.0]) * COUNT
world.Allreduce(mine, total, op=MPI.SUM)
if set(total) != {sum(range(1, world.size + 1))}:
    raise SystemExit(f"rank {world.rank} has another sum: {sorted(set(total))[:3]}")
if world.rank == 0:
    print(f"{world.size} ranks: {COUNT} numbers, sum {total[0]:.0f}", flush=True)
