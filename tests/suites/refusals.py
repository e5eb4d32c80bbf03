"""Requests that no node can ever serve, and what Slurm answers: it must refuse them at once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from hpcstate.check.jobs import new_name, skip_if_busy
from hpcstate.check.suite import CheckFailed
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import real_memory_mb

ABSENT_TYPE = "absent"
"""A type of GPU that no node has."""

UNAVAILABLE = "Requested node configuration is not available"
"""ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE (slurm_errno.h): no node could serve it, even when idle."""

TOO_MANY_CPUS = "More processors requested than permitted"
"""ESLURM_TOO_MANY_REQUESTED_CPUS: the same of CPUs, where EnforcePartLimits is ALL."""

_PART = "=== request "


@dataclass(frozen=True)
class Answer:
    """What srun made of a request: its exit code and its last words."""

    request: str
    code: int
    words: str

    @property
    def refused(self) -> bool:
        """Whether Slurm refused it for good, and not for now."""
        return self.code != 0 and (UNAVAILABLE in self.words or TOO_MANY_CPUS in self.words)


def impossible(live: Live) -> dict[str, str]:
    """Requests for one node that exceed every node of the cluster file, by what they ask too much of."""
    cpus = max(node.cpu_cores for node in live.cluster.workers)
    memory_mb = max(real_memory_mb(node.memory_mb) for node in live.cluster.workers)
    gpus = max(len(node.gres_types) for node in live.cluster.workers)
    return {
        "type": f"--gres=gpu:{ABSENT_TYPE}:1",
        "gres": f"--gres=gpu:{gpus + 1}",
        "gpus": f"--gpus-per-node={gpus + 1}",
        "cpus": f"--cpus-per-task={cpus + 1}",
        "memory": f"--mem={memory_mb + 1}M",
    }


@pytest.fixture(scope="session")
def answers(live: Live) -> dict[str, Answer]:
    """What srun answers to each of the impossible requests, made one after the other by the ordinary user."""
    requests = impossible(live)
    name = new_name()
    lines = []
    for label, request in requests.items():
        # --immediate: a request that is not refused must not wait for ever.
        words = (
            "srun",
            f"--job-name={name}",
            "--time=1",
            "--immediate=2",
            "--nodes=1",
            "--ntasks=1",
            request,
        )
        lines.append(f"echo '{_PART}{label}'; timeout 20 {shlex.join(words)} true 2>&1; echo code $?")
    text = live.run(live.cluster.controller.name, "\n".join(lines), user="hpc", timeout=120).stdout
    return parse_answers(requests, text)


def parse_answers(requests: Mapping[str, str], text: str) -> dict[str, Answer]:
    """The answers by label. Raises LookupError when one is missing."""
    parts = dict(part.partition("\n")[::2] for part in text.split(_PART)[1:])
    found = {}
    for label, request in requests.items():
        *words, code = parts[label].strip().splitlines()
        said = (re.sub(r"^srun: (error: )?", "", line) for line in words if line)
        found[label] = Answer(request, int(code.removeprefix("code ")), " / ".join(said))
    return found


def demand_refused(live: Live, answers: Mapping[str, Answer], *labels: str) -> str:
    """Say that the requests of ``labels`` were refused. Raises CheckFailed for those that were not."""
    asked = [answers[label] for label in labels]
    bad = [answer for answer in asked if not answer.refused]
    if bad:
        skip_if_busy(live)
        raise CheckFailed(
            f'"{UNAVAILABLE}"',
            "; ".join(f"{answer.request}: {answer.words or 'it ran'}" for answer in bad),
            "the NodeName lines of slurm.conf must say what the nodes have, and no more",
        )
    return "; ".join(f'{answer.request}: "{answer.words}"' for answer in asked)
