"""Which disk an entry of the file would get after an edit, from the text of one file to the text of the next:
what is refused, and that what the refusal says can be typed and leads out of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.machine import MachineDifference, handed_on
from hpcstate.hypervisor.mark import Mark
from hpcstate.hypervisor.observed import refuse_other_identity, shapes
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster

FACTS = HypervisorFacts(kvm=True)
MARK = Mark("1", "gpu", "", "gpu.yaml", "/keys", "ws1", "2026-11-26")
PLAIN = "cpu_cores: 2, memory_gb: 2"


def gpus(count: int) -> str:
    return f"{PLAIN}, simulated_gpus: {{count: {count}}}"


def load(folder: Path, entries: list[str]) -> Cluster:
    file = folder / "gpu.yaml"
    nodes = "".join(f"      - {{{entry}}}\n" for entry in entries)
    file.write_text(
        "version: '1.0'\nmetadata: {name: gpu}\nclusters:\n  hpc:\n    name: gpu\n"
        "    network: {name: gpu, subnet: 192.168.150.0/24, bridge: virbr150}\n"
        "    controller: {cpu_cores: 2, memory_gb: 2, disk_gb: 20}\n    compute_nodes:\n" + nodes
    )
    return schema.load(file).clusters[0]


def rows(before: Cluster, now: Cluster, *, noted: bool = True) -> list[MachineDifference]:
    """The difference when ``before`` was started and the file is ``now``; not ``noted``: by a version that
    marked no names and no simulated GPUs."""
    defined = {}
    for node in before.nodes:
        xml = objects.domain_xml(before, node, FACTS, MARK)
        if not noted:
            xml = re.sub(r' (named|simulated)="[^"]*"', "", xml)
        defined[node.name] = xml
    leases = {node.name: str(node.address) for node in before.nodes}
    gone = [name for name in defined if name not in {node.name for node in now.nodes}]
    removed = [MachineDifference(name, "node", "running", "", "remove") for name in gone]
    return removed + handed_on(shapes(now, FACTS, defined), leases)


def said(every: list[MachineDifference]) -> list[str]:
    return [f"{row.what} is {row.wanted}" for row in every if row.impact == "identity"]


NAMED_TWO = [f"{PLAIN}, name: compute-01", f"{gpus(2)}, name: compute-02"]


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        # A named one taken out, and an unnamed one now has its place: told by its simulated GPUs ...
        ([*NAMED_TWO, gpus(1)], [NAMED_TWO[0], gpus(1)], ["compute-02 is compute-03"]),
        # ... and where both are alike, by the name that the file gave.
        ([*NAMED_TWO, gpus(2)], [NAMED_TWO[0], gpus(2)], ["compute-02 is compute-03"]),
        (
            [*NAMED_TWO, gpus(2), gpus(2)],
            [NAMED_TWO[0], gpus(2), gpus(2)],
            ["compute-02 is compute-03", "compute-03 is compute-04"],
        ),
        # A name that is no longer given, with nobody gone, or with one gone that had a name.
        (NAMED_TWO, [NAMED_TWO[0], gpus(2)], []),
        ([*NAMED_TWO, f"{gpus(2)}, name: big"], [NAMED_TWO[0], gpus(2)], []),
        # Unnamed ones that differ in simulated GPUs only.
        ([PLAIN, gpus(2), gpus(1)], [PLAIN, gpus(1)], ["compute-02 is compute-03"]),
        ([PLAIN, gpus(2)], [PLAIN, gpus(1)], []),
        # Two changed, and a new one at the end of the size that they had.
        ([PLAIN] * 2, ["cpu_cores: 2, memory_gb: 2.5", "cpu_cores: 1, memory_gb: 2", PLAIN], []),
        ([PLAIN] * 2, [PLAIN, PLAIN, gpus(2)], []),
        # A new one at the front, and two of them: who is who is not known, and one name for each is said.
        ([PLAIN] * 2, [gpus(2), PLAIN, PLAIN], ["compute-03 is compute-01"]),
        (
            [PLAIN] * 2,
            [gpus(2), gpus(1), PLAIN, PLAIN],
            ["compute-03 is compute-01", "compute-04 is compute-02"],
        ),
        ([PLAIN, gpus(1)], [PLAIN, gpus(2), gpus(1)], ["compute-03 is compute-02"]),
        ([PLAIN, gpus(1)], [gpus(1), PLAIN], ["compute-01 is compute-02", "compute-02 is compute-01"]),
    ],
)
def test_what_an_edit_would_make_of_the_nodes(
    tmp_path: Path, before: list[str], now: list[str], refused: list[str]
) -> None:
    was, becomes = load(tmp_path, before), load(tmp_path, now)
    every = rows(was, becomes)
    assert said(every) == refused
    if not refused:
        refuse_other_identity(becomes, every)
        return
    with pytest.raises(HpcstateError) as caught:
        refuse_other_identity(becomes, every)
    for way in caught.value.hint.split("; if each entry is what it was"):
        names = re.findall(r"`name: (\S+)` at \S+\[(\d+)\]", way)
        assert names
        assert len({place for _, place in names}) == len(names), "one name for each entry"
        typed = list(now)
        for name, place in names:
            typed[int(place)] += f", name: {name}"
        mended = load(tmp_path, typed)
        assert said(rows(was, mended)) == [], "what the refusal says leads out of it"
        refuse_other_identity(mended, rows(was, mended))


def test_a_domain_from_before_is_compared_in_what_is_known_of_it(tmp_path: Path) -> None:
    was = load(tmp_path, [PLAIN, gpus(2), gpus(1)])
    assert said(rows(was, load(tmp_path, [PLAIN, gpus(1), gpus(1)]), noted=False)) == []
    bigger = "cpu_cores: 2, memory_gb: 4"
    was = load(tmp_path, [PLAIN, gpus(2), bigger])
    assert said(rows(was, load(tmp_path, [PLAIN, bigger]), noted=False)) == ["compute-02 is compute-03"]


def test_entries_with_a_count_are_said_to_be_taken_apart(tmp_path: Path) -> None:
    before = [f"{PLAIN}, count: 1", f"{gpus(1)}, count: 3"]
    was = load(tmp_path, before)
    becomes = load(tmp_path, [*before[1:], f"{PLAIN}, count: 1"])
    with pytest.raises(HpcstateError, match="one entry for each node"):
        refuse_other_identity(becomes, rows(was, becomes))
