"""What was proven, when, and for which configuration: ``build/<cluster>/proof.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hpcstate.check.suite import CheckResult
from hpcstate.digest import key_of
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.slurm.conf import cgroup_conf, slurm_conf

OUTCOMES = {
    "passed": "passed",
    "failed": "failed",
    "error": "could not be made",
    "skipped": "skipped",
}
"""The outcomes of a check, and how they are counted in words."""


@dataclass(frozen=True)
class Proof:
    """The results of one run of the checks on one cluster.

    ``when`` is the local time at the end of the run with its offset; ``configuration`` is the digest of what
    the cluster was declared to be; ``complete`` says whether all checks were asked for; ``versions`` are
    those of the programs, by name; ``boots`` names the boot of each node (random(4), boot_id): a proof
    stands for these.
    """

    cluster: str
    file: str
    when: datetime
    configuration: str
    complete: bool
    seconds: float
    results: tuple[CheckResult, ...]
    versions: dict[str, str] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """How many checks had that outcome."""
        return sum(result.outcome == outcome for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """The machine's view of a proof; its keys stay as they are."""
        return {
            "cluster": self.cluster,
            "file": self.file,
            "when": self.when.isoformat(timespec="seconds"),
            "configuration": self.configuration,
            "complete": self.complete,
            "seconds": round(self.seconds, 2),
            "versions": self.versions,
            "boots": self.boots,
            "passed": self.count("passed"),
            "failed": self.count("failed"),
            "skipped": self.count("skipped"),
            "errors": self.count("error"),
            "checks": [asdict(result) for result in self.results],
        }


def read_proof(path: Path) -> Proof | None:
    """The proof in ``path``; None when there is none, or none that this version wrote."""
    try:
        found = json.loads(path.read_text())
        return Proof(
            cluster=found["cluster"],
            file=found["file"],
            when=datetime.fromisoformat(found["when"]),
            configuration=found["configuration"],
            complete=found["complete"],
            seconds=found["seconds"],
            results=tuple(CheckResult(**result) for result in found["checks"]),
            versions=found["versions"],
            boots=found["boots"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def configuration_digest(cluster: Cluster) -> str:
    """The digest of what ``cluster`` is declared to be and of the configuration rendered from it: a proof
    with another digest was made for another cluster."""
    return key_of(
        {
            "nodes": [
                {
                    "name": node.name,
                    "role": node.role,
                    "address": str(node.address),
                    "cpu_cores": node.cpu_cores,
                    "memory_mb": node.memory_mb,
                    "image": node.image,
                    "gres": node.gres,
                }
                for node in cluster.nodes
            ],
            "slurm.conf": slurm_conf(cluster),
            "cgroup.conf": cgroup_conf(cluster),
            **({"site": asdict(cluster.site)} if cluster.site else {}),
        }
    )


def write_proof(proof: Proof, path: Path) -> None:
    """Write ``proof`` to ``path`` in one step: a reader sees the old proof or the new one."""
    write_atomically(path, json.dumps(proof.to_json(), indent=2) + "\n")


def summary(results: Sequence[CheckResult], seconds: float) -> str:
    """One line: ``13 passed, 1 failed, 2 skipped in 24.1 s``."""
    return f"{counted(result.outcome for result in results)} in {seconds:.1f} s"


def counted(outcomes: Iterable[str]) -> str:
    """``13 passed, 1 failed, 2 skipped``; what did not happen is left out, but for passed."""
    counts = Counter(outcomes)
    return ", ".join(
        f"{counts[name]} {word}" for name, word in OUTCOMES.items() if counts[name] or name == "passed"
    )


def result_lines(result: CheckResult) -> list[tuple[str, str]]:
    """What there is to say of ``result`` beyond its title: label (may be empty) and text."""
    lines = {
        "passed": (("", result.observed),),
        "skipped": (("why", result.reason),),
        "error": (("why", result.reason), ("next", result.hint)),
        "failed": (("expected", result.expected), ("observed", result.observed), ("next", result.hint)),
    }[result.outcome]
    return [(label, text) for label, text in lines if text]
