"""Asks a running cluster about a job: sacct on the controller, collect.py on the job's nodes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcstate import hostlist
from hpcstate.diagnose import output_paths, record, sources
from hpcstate.diagnose.decide import Diagnosis
from hpcstate.diagnose.record import JobRecord
from hpcstate.diagnose.sources import Collected
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from hpcstate.run import at_once

PROGRAM = Path(__file__).with_name("collect.py")
SECONDS = 150
MOST_NODES = 64
"""Nodes of a job that are asked; more of them are told as not read."""


def script(request: Mapping[str, Any]) -> str:
    """What a node's shell runs: the collector's text on standard input of its Python, and the question."""
    text = PROGRAM.read_text(encoding="utf-8")
    return f"python3 -I - {shlex.quote(json.dumps(request))} <<'end-of-collect'\n{text}\nend-of-collect"


def look(
    live: Live, cluster: Cluster, job: str, say: Callable[[str], None]
) -> tuple[JobRecord, Collected, Diagnosis]:
    """What is known of ``job`` (``12``, ``12_3``) and what it comes to.

    Raises HpcstateError where Slurm has no record of it, or sacct does not answer.
    """
    known = recorded(live, cluster, job)
    ours = {node.name for node in cluster.nodes}
    names = [name for name in _nodes(known) if name in ours]
    asked = list(dict.fromkeys([*names[:MOST_NODES], cluster.controller.name]))
    missing = [f"the logs of {len(names) - MOST_NODES} more nodes"] if len(names) > MOST_NODES else []
    missing += [f"{name}: the cluster file has no such node" for name in _nodes(known) if name not in ours]
    paths = output_paths.candidates(known)
    ask = script(sources.request(known, paths))

    def answer(name: str) -> dict[str, Any] | str:
        try:
            done = live.run(name, ask, user="root", timeout=SECONDS)
            found = json.loads(done.stdout)
        except HpcstateError as error:
            return f"{name}: {error.message.splitlines()[0]}"
        except ValueError:
            return f"{name}: its answer is no JSON"
        return found if isinstance(found, dict) else f"{name}: its answer is no object"

    say(f"asking {', '.join(asked)}")
    answers = at_once(answer, asked)
    missing += [text for text in answers.values() if isinstance(text, str)]
    good = {name: found for name, found in answers.items() if isinstance(found, dict)}
    if cluster.controller.name not in names and cluster.controller.name in good:
        # It is asked for the output in a shared home when the job's nodes are gone; its own logs are not
        # the job's.
        good[cluster.controller.name] = {
            **good[cluster.controller.name],
            "kernel": [],
            "slurm": [],
            "missing": [],
        }
    collected = sources.gathered(good, known.job, missing)
    return known, collected, sources.judge(collected, known)


class NotRecordedError(HpcstateError):
    """Slurm has no record of a job, perhaps not yet."""


def recorded(live: Live, cluster: Cluster, job: str) -> JobRecord:
    """Slurm's record of ``job``; raises NotRecordedError where there is none, HpcstateError where sacct does
    not answer."""
    words = shlex.join(record.sacct_words(job))
    done = live.run(cluster.controller.name, words, user="root", timeout=SECONDS, check=False)
    if done.code:
        raise HpcstateError(
            f"sacct ended with {done.code}: {done.stderr.strip() or 'it said nothing'}",
            where=cluster.controller.name,
            hint="`hpcstate check FILE --suite accounting` tells what is down; without `accounting` nobody "
            "records jobs",
        )
    try:
        found = record.find(record.parse(done.stdout), job)
    except ValueError as error:
        raise HpcstateError(
            f"sacct gave no answer that is known: {error}", where=cluster.controller.name
        ) from error
    if found is None:
        raise NotRecordedError(
            f"job {job} is not recorded",
            where=cluster.name,
            hint="`sacct` on the controller lists what is; a job from before accounting was on is not",
        )
    return found


def _nodes(known: JobRecord) -> list[str]:
    try:
        return list(hostlist.expand(known.nodes)) if known.nodes else []
    except HpcstateError:
        return []
