"""Active checks, on the controller: jobs of our own on nodes that have none, at the lowest priority.

A job of anybody else that waits for resources ends them at once. What came out is kept, held against the
node's own past, and turned into an action by the declared list. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcstate.health.decide import ACTIVE, AtSlurm, Look, may_resume, reason
from hpcstate.health.node import append, ask, now, slurm
from hpcstate.health.past import good, judge

RECORD = Path("/var/lib/hpcstate/health/active.jsonl")
_BENCH = Path(__file__).resolve().parents[2] / "bench"
NAME = "hpcstate-active"
LOWEST = 2147483645
"""The greatest --nice (srun(1))."""

MINUTES = {"light": 4, "deep": 45}
START_SECONDS = 30
_POLL = 2.0
_WAITING = ("Resources", "Priority", "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved")


@dataclass(frozen=True)
class Active:
    """An active check. ``figure`` is what it measures (more is better), empty for none, in ``unit``. What
    becomes of a node with a ``wrong`` result, and of one that is ``slow`` by its own past: ``isolate`` drains
    it, ``reset`` drains it for a reset of its GPUs, ``watch`` records it."""

    name: str
    figure: str
    unit: str
    wrong: str
    slow: str


CHECKS: tuple[Active, ...] = (
    Active("memory", "memory_gb_s", "GB/s", "isolate", "watch"),
    Active("disk", "disk_mb_s", "MB/s", "isolate", "watch"),
    Active("pair", "network_mb_s", "MB/s", "watch", "watch"),
    Active("gpu_product", "gpu_tflop_s", "TFLOP/s", "reset", "watch"),
    Active("nccl", "", "", "reset", "watch"),
    Active("dcgm", "", "", "isolate", "watch"),
)
"""The declared list. A pair that fails says nothing of which of the two nodes it is: it is watched."""

DRAINS: Mapping[str, str] = {
    "isolate": "",
    "reset": "; reset its GPUs (nvidia-smi -r) or reboot",
}
"""The severities that drain, and what their reasons say besides."""


@dataclass(frozen=True)
class Measured:
    """What a check said of a node (of a pair, ``a,b``): ``result`` is ``ok``, ``failed``, or ``none`` where
    it was not measured; ``value`` is its figure, None without one."""

    time: str
    node: str
    check: str
    result: str
    severity: str
    value: float | None
    unit: str
    detail: str


def outcomes(node: str, said: Mapping[str, Any], past: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """What ``said``, the measurements of a node by name, means, held against the records of its ``past``."""
    found = []
    for check in CHECKS:
        figures = said.get(check.name)
        if not isinstance(figures, dict):
            continue
        value = figures.get(check.figure) if check.figure else None
        value = float(value) if isinstance(value, int | float) else None
        result, severity, detail = "ok", "", ""
        if why := figures.get("skipped"):
            result, detail = "none", str(why)
        elif why := figures.get("error"):
            # It could not be measured: that is no proof of a bad node.
            result, severity, detail = "failed", "watch", str(why)
        elif figures.get("wrong"):
            result, severity = "failed", check.wrong
            detail = f"{figures['wrong']} wrong results {figures.get('why', '')}".strip()
        elif value is not None:
            before = good(list(_figures(past, node, check.name)))
            verdict = judge(value, before, unit=check.unit)
            detail = verdict.detail
            if not verdict.sound:
                result, severity = "failed", check.slow
        found.append(Measured(now(), node, check.name, result, severity, value, check.unit, detail))
    return found


def _figures(past: Iterable[Mapping[str, Any]], node: str, check: str) -> Iterator[tuple[float, bool]]:
    for each in past:
        if each.get("node") == node and each.get("check") == check and each.get("value") is not None:
            yield float(each["value"]), each.get("result") == "ok"


def drains(found: Sequence[Measured]) -> dict[str, str]:
    """The nodes to be drained, with the reason; none for a check that half of several nodes fail at once."""
    reasons: dict[str, str] = {}
    for check in CHECKS:
        tested = {each.node for each in found if each.check == check.name and each.result != "none"}
        bad = [each for each in found if each.check == check.name and each.severity in DRAINS]
        if len(bad) > 1 and len(bad) * 2 >= len(tested):
            continue
        for each in bad:
            text = reason(Look(f"{ACTIVE}{each.check}", "failed", each.detail + DRAINS[each.severity]))
            reasons.setdefault(each.node, text)
    return reasons


def idle(nodes: Mapping[str, AtSlurm]) -> list[str]:
    """The nodes that have no jobs, and may get some."""
    return [name for name, seen in nodes.items() if seen.states == ("IDLE",)]


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each node once with another one; the odd one with the first."""
    found = list(zip(names[::2], names[1::2], strict=False))
    return [*found, (names[-1], names[0])] if len(names) % 2 and len(names) > 1 else found


def others_wait(listed: str) -> bool:
    """Whether a job of somebody waits for resources, by `squeue --format=%j|%r`."""
    rows = (line.rpartition("|") for line in listed.splitlines())
    return any(name != NAME and why.startswith(_WAITING) for name, _, why in rows)


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 all sound, 1 something failed, 2 nothing could be measured."""
    parser = argparse.ArgumentParser(prog="active", description="The active checks of nodes without jobs.")
    parser.add_argument("--deep", action="store_true", help="the deep set: minutes for each node")
    parser.add_argument("--node", action="append", default=[], help="only this node (repeatable)")
    parser.add_argument("--given", metavar="NODE", help="what NODE measured comes on standard input")
    args = parser.parse_args(arguments)
    past = read_past()
    if args.given:
        found = outcomes(args.given, json.load(sys.stdin), past)
        return finish(found, ask() or {})
    nodes = ask()
    if nodes is None:
        print("slurmctld does not answer", file=sys.stderr)
        return 2
    free = idle(nodes)
    names = [name for name in (args.node or free) if name in free]
    for name in args.node:
        if name not in free:
            state = "+".join(nodes[name].states) if name in nodes else "not known to Slurm"
            print(f"{name} is {state}: only nodes without jobs are measured")
    if others_wait(slurm("squeue", "--noheader", "--all", "--states=PD", "--format=%j|%r") or ""):
        print("jobs wait for resources: nothing is measured")
        return 2 if args.node else 0
    if not names:
        return 2 if args.node else 0
    found = measure(names, "deep" if args.deep else "light", past)
    return finish(found, nodes)


def measure(names: Sequence[str], what: str, past: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """Each node by itself, all at once, then each with another one."""
    found: list[Measured] = []
    for name, said in _jobs({name: (name,) for name in names}, what).items():
        found += outcomes(name, said, past)
    for (left, right), said in zip(
        pairs(names), _jobs({",".join(two): two for two in pairs(names)}, "pair").values(), strict=False
    ):
        found += outcomes(",".join(sorted((left, right))), {"pair": said}, past)
    return found


def _jobs(wanted: Mapping[str, Sequence[str]], what: str) -> dict[str, dict[str, Any]]:
    """What the job on each of these sets of nodes printed; a job that others ended said nothing."""
    running = {}
    for key, names in wanted.items():
        words = [
            *("srun", f"--job-name={NAME}", f"--nodelist={','.join(names)}", f"--nodes={len(names)}"),
            *(f"--ntasks={len(names)}", "--exclusive", f"--nice={LOWEST}", f"--immediate={START_SECONDS}"),
            *(f"--time={MINUTES.get(what, 4)}", "--export=NONE", "--quiet", "--chdir=/"),
            *(("--mpi=pmix",) if what == "pair" else ("--mpi=none",)),
            *(str(_BENCH), what),
        ]
        running[key] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    stopped = False
    while any(each.poll() is None for each in running.values()):
        time.sleep(_POLL)
        listed = slurm("squeue", "--noheader", "--all", "--states=PD", "--format=%j|%r") or ""
        if not stopped and others_wait(listed):
            stopped = True
            slurm("scancel", f"--name={NAME}")
    found: dict[str, dict[str, Any]] = {}
    for key, each in running.items():
        printed, errors = each.communicate()
        said = _last_json(printed)
        if said is None:
            why = "others needed the node" if stopped else errors.strip().rpartition("\n")[2][:200]
            said = {"skipped": why or f"srun ended with {each.returncode}"}
            said = said if what == "pair" else {"memory": said}
        found[key] = said
    return found


def _last_json(printed: str) -> dict[str, Any] | None:
    for line in reversed(printed.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def read_past() -> list[dict[str, Any]]:
    """The records that are kept; lines that are none are passed over."""
    found = []
    try:
        text = RECORD.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [each for each in found if isinstance(each, dict)]


def finish(found: Sequence[Measured], nodes: Mapping[str, AtSlurm]) -> int:
    """Record, act and say."""
    RECORD.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in found:
        append(RECORD, asdict(each))
        print(json.dumps(asdict(each), ensure_ascii=False))
    for name, text in drains(found).items():
        if name in nodes and not nodes[name].drained:
            slurm("scontrol", "update", f"nodename={name}", "state=drain", f"reason={text}")
            print(json.dumps({"node": name, "drain": text}, ensure_ascii=False))
    for name, seen in nodes.items():
        passed = [each.check for each in found if each.node == name and each.result == "ok"]
        if may_resume(seen, passed):
            slurm("scontrol", "update", f"nodename={name}", "state=resume", "reason=none")
            print(json.dumps({"node": name, "resume": seen.reason}, ensure_ascii=False))
    if not any(each.result != "none" for each in found):
        return 2
    return int(any(each.result == "failed" for each in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
