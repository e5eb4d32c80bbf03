"""A job has a folder of its own for what is bigger than a node's disk, and it is gone with the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from hpcstate.check.jobs import srun, together
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node import scratch
from hpcstate.node.homes import SCRATCH_SERVED
from hpcstate.node.ssh import JOB_USER, Live
from hpcstate.slurm.conf import TASK_PROLOG
from tests.suites.breaking import Edit, edited, last_worker
from tests.suites.slurm import reports

NO_JOB = 4_000_000_000
"""A number that no job has: the highest is 0x03ffffff (slurm.conf(5), MaxJobId)."""

UNIT = f"{scratch.SWEEP}.service"
TIMER = f"{scratch.SWEEP}.timer"

# Each task says what it met, then leaves a file that the others look for.
_LOOK = """
folder=${SCRATCH-} mode= seen=0
if [ "$folder" ]; then
  mode=$(stat -c '%a %U' "$folder" 2>&1 | tail -n 1)
  : >"$folder/$(hostname)" || exit 1
  for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    seen=$(ls "$folder" | wc -l)
    [ "$seen" -lt "$SLURM_NTASKS" ] || break
    sleep 1
  done
fi
printf '{"host": "%s", "folder": "%s", "mode": "%s", "seen": %s, "tasks": %s}\\n' \
  "$(hostname)" "$folder" "$mode" "$seen" "$SLURM_NTASKS"
"""


@dataclass(frozen=True)
class Met:
    """What a task met: its ``folder``, empty without one, ``mode`` and owner of it, and how many of the files
    of ``tasks`` it has ``seen`` there."""

    host: str
    folder: str
    mode: str
    seen: int
    tasks: int


def test_job_scratch(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """A job's scratch folder is one on all its nodes and its own, and gone when the job has ended"""
    if not cluster.scratch:
        pytest.skip("the cluster file has no storage.scratch")
    met: list[Met] = []
    for place in together(live, live.workers):
        words = (*place, "--ntasks-per-node=1", "--mem=100M")
        met += [Met(**report) for report in reports(srun(live, words, ("sh", "-c", _LOOK)))]
    at = SCRATCH_SERVED if scratch.is_served(cluster) else cluster.scratch
    folders = sorted({each.folder.rpartition("/")[2] for each in met if each.folder})
    leftover = f"{scratch.prefix(cluster)}{NO_JOB}"
    # A job that completes is one still, for some seconds.
    ask = (
        f"systemctl is-active {TIMER}; cd {at} || exit 1; for try in 1 2 3 4 5 6 7 8; do "
        f"systemctl start {UNIT}; left=; "
        f'for name in {" ".join((*folders, leftover))}; do [ ! -e "$name" ] || left="$left $name"; done; '
        '[ "$left" ] || break; sleep 4; done; for name in $left; do echo "left $name"; done'
    )
    # As after a node that died: nobody else is there to remove it.
    live.run(controller.name, f"mkdir -p {at}/{leftover}/deep", user="hpc", check=False)
    said = live.run(controller.name, ask, user="root", timeout=120, check=False).stdout.split("\n")
    names = [node.name for node in live.workers]
    if wrong := [*wrongs(met, names, cluster.scratch), *remains(said, at)]:
        raise CheckFailed(
            f"a folder of the job's own below {cluster.scratch}, of mode 700, on all its nodes, then nothing",
            "; ".join(wrong),
            f"TaskProlog in slurm.conf and {TASK_PROLOG} on the nodes; in {cluster.scratch} all must be "
            f"able to write (mode 1777); journalctl -u {scratch.SWEEP} on {controller.name}; " + DEPLOY_AGAIN,
        )
    record_property("observed", f"{', '.join(folders)} below {cluster.scratch} on {', '.join(names)}: gone")


def wrongs(met: Sequence[Met], names: Sequence[str], top: str) -> list[str]:
    """What is wrong with the folders that tasks on the nodes ``names`` met, in words."""
    silent = sorted(set(names) - {each.host for each in met})
    found = [f"{name}: no task told of it" for name in silent]
    for each in met:
        if not each.folder.startswith(f"{top}/"):
            found.append(f"{each.host}: SCRATCH is {each.folder or 'not set'}")
        elif each.mode != f"700 {JOB_USER}":
            found.append(f"{each.host}: {each.folder} is {each.mode}")
        elif each.seen < each.tasks:
            found.append(f"{each.host}: sees {each.seen} of {each.tasks} files in {each.folder}")
    return found


def remains(said: Sequence[str], at: str) -> list[str]:
    """What is wrong with the removal, by what the controller ``said``."""
    state, *rest = said
    off = [f"{TIMER} is {state or 'not there'}"] if state != "active" else []
    return off + [f"{at}/{line.removeprefix('left ')} is left" for line in rest if line.startswith("left ")]


def _skip_without(live: Live) -> None:
    if not live.cluster.scratch:
        pytest.skip("the cluster file has no storage.scratch")


@fault("a node does not make the folder of a job", "storage.job_scratch")
def no_folder(live: Live) -> Iterator[None]:
    _skip_without(live)
    quiet = Edit(last_worker(live).name, TASK_PROLOG, lambda text: "#!/bin/sh\nexit 0\n" + text)
    with edited(live, [quiet]):
        yield


@fault("nobody removes the folders of jobs", "storage.job_scratch")
def no_removal(live: Live) -> Iterator[None]:
    _skip_without(live)
    controller = live.cluster.controller.name
    try:
        live.run(controller, f"systemctl stop {TIMER}", user="root")
        yield
    finally:
        live.run(controller, f"systemctl start {TIMER}", user="root")
