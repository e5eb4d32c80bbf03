"""topology.conf: the switches of topology/tree and the blocks of topology/block, as slurmctld builds them.

Read from src/plugins/topology/tree/switch_record.c and block/block_record.c of Slurm 24.11.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.lint.defaults import integer
from hpcstate.slurm.lint.nodes import known_nodes, listed
from hpcstate.slurm.read import Record, Whole, names

_STOP = "slurmctld stops"
_MAX_DEPTH = 20
_MAX_NAME = 64
"""limits.h, HOST_NAME_MAX."""


def problems(whole: Whole) -> Iterator[Problem]:
    """What is wrong with the file by itself."""
    switches, blocks = whole.named("SwitchName"), whole.named("BlockName")
    if switches and (blocks or "blocksizes" in whole.values):
        message = f"SwitchName is topology/tree's, BlockName and BlockSizes topology/block's: {_STOP}"
        yield switches[0].problem("SwitchName", message, "keep those of TopologyPlugin")
        return
    yield from _repeated(switches, "SwitchName")
    yield from _repeated(blocks, "BlockName")
    for record in (*switches, *blocks):
        if why := refusal(record.attributes.get("nodes", "")):
            yield record.problem("Nodes", f"{why}: {_STOP}", "write it as compute-[01-04,07]")
    yield from _switches(switches)
    yield from _blocks(whole, blocks)


def problems_with(topology: Whole, slurm: Whole) -> Iterator[Problem]:
    """What is wrong with the file and the plugin and nodes of a slurm.conf."""
    plugin = slurm.value("TopologyPlugin")
    tree, block = plugin == "topology/tree", plugin == "topology/block"
    switches, blocks = topology.named("SwitchName"), topology.named("BlockName")
    if tree and not switches and (blocks or "blocksizes" in topology.values):
        yield _first(topology, blocks).problem(
            "BlockName", f"no key for {plugin}: {_STOP}", "write SwitchName="
        )
    elif block and switches:
        yield switches[0].problem("SwitchName", f"no key for {plugin}: {_STOP}", "write BlockName=")
    known, all_known = known_nodes(slurm)
    if not (tree or block) or not all_known or not slurm.complete:
        return
    lines = switches if tree else blocks
    if not lines:
        message = f"has no {'switches' if tree else 'blocks'}: slurmctld logs an error, all nodes are alike"
        yield Problem(0, "SwitchName" if tree else "BlockName", message, severity="warning")
        return
    placed = {name for record in lines for name in names(record.attributes.get("nodes", "")) or ()}
    for record in lines:
        missing = [name for name in names(record.attributes.get("nodes", "")) or () if name not in known]
        if missing:
            message = f"{listed(missing)} in no NodeName line of slurm.conf: an error is logged"
            yield record.problem("Nodes", message, "correct the name", "warning")
    if lacking := sorted(known - placed):
        message = f"{listed(lacking)} in no line: jobs that span nodes do not get there"
        yield lines[-1].problem("Nodes", message, "add the nodes", "warning")
    elif tree:
        yield from _homes(switches)
    if block:
        yield from _small_blocks(topology, blocks, known)


def _first(whole: Whole, records: Sequence[Record]) -> Record:
    return records[0] if records else Record(whole.values["blocksizes"][1], "", {})


def _repeated(records: Sequence[Record], key: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            yield record.problem(key, f"is given twice: {_STOP}", "merge the two lines")
        seen.add(record.name)


def _switches(switches: Sequence[Record]) -> Iterator[Problem]:
    """_parse_switches and switch_record_validate."""
    by_name = {record.name: record for record in switches}
    for record in switches:
        nodes, below = (record.attributes.get(key) for key in ("nodes", "switches"))
        if len(record.name) > _MAX_NAME:
            yield record.problem("SwitchName", f"is longer than {_MAX_NAME} characters: {_STOP}")
        if nodes is not None and below is not None:
            yield record.problem("SwitchName", f"has both Nodes and Switches: {_STOP}", "keep one of them")
        elif nodes is None and below is None:
            yield record.problem(
                "SwitchName", f"has neither Nodes nor Switches: {_STOP}", "write one of them"
            )
        elif below is not None:
            if why := refusal(below):
                yield record.problem("Switches", f"{why}: {_STOP}", "write it as leaf[1-4]")
                continue
            missing = [name for name in names(below) or () if name not in by_name or name == record.name]
            if missing:
                message = f"{missing[0]} is no other switch of this file: {_STOP}"
                yield record.problem("Switches", message, "add its SwitchName line, or correct the name")
    levels = {record.name: 0 for record in switches if "nodes" in record.attributes}
    above = [record for record in switches if "switches" in record.attributes]
    for _ in range(_MAX_DEPTH + 1):
        for record in above:
            children = names(record.attributes["switches"]) or ()
            if all(name in levels or name not in by_name for name in children):
                levels.setdefault(record.name, 1)
    looping = [record for record in above if record.name not in levels]
    if looping:
        message = f"the switches are no tree, they lead back to themselves: {_STOP}"
        yield looping[0].problem("Switches", message, "leaf switches have Nodes=")


def _homes(switches: Sequence[Record]) -> Iterator[Problem]:
    seen: set[str] = set()
    for record in switches:
        own = names(record.attributes.get("nodes", "")) or ()
        twice = [name for name in own if name in seen]
        seen.update(own)
        if twice:
            message = f"{listed(twice)} on several leaf switches: slurmctld warns"
            yield record.problem("Nodes", message, severity="warning")
    below = {name for record in switches for name in names(record.attributes.get("switches", "")) or ()}
    roots = [record for record in switches if record.name not in below]
    if len(roots) > 1:
        message = "no switch reaches all nodes: slurmctld warns, jobs stay below one of them"
        yield roots[-1].problem("SwitchName", message, "add a switch with Switches= of the others", "warning")


def _blocks(whole: Whole, blocks: Sequence[Record]) -> Iterator[Problem]:
    """_parse_block and _read_topo_file."""
    for record in blocks:
        if "nodes" not in record.attributes:
            yield record.problem("BlockName", f"has no Nodes: {_STOP}", "write Nodes=")
    base = 0
    for text in whole.value("BlockSizes").split(","):
        size = integer(text)
        if not text and "blocksizes" not in whole.values:
            return
        base = base or size
        ratio = size // base if base > 0 and size > 0 and size % base == 0 else 0
        if not ratio or ratio & (ratio - 1) or ratio > 2**15:
            message = f'"{text}" is no block size: {_STOP}'
            hint = "the first is the size of a block, the others are that times 2, 4, 8 ..."
            yield whole.problem("BlockSizes", message, hint)
            return


def _small_blocks(topology: Whole, blocks: Sequence[Record], known: set[str]) -> Iterator[Problem]:
    """block_record_validate: no block may have less nodes than BlockSizes, or than the first block."""
    sizes = [
        len([name for name in names(record.attributes.get("nodes", "")) or () if name in known])
        for record in blocks
    ]
    given = re.match("[0-9]{1,9}", topology.value("BlockSizes"))
    least = int(given[0]) if given else sizes[0]
    for record, size in zip(blocks, sizes, strict=True):
        if size < least:
            message = f"has {size} nodes, and a block has at least {least}: {_STOP}"
            yield record.problem("Nodes", message, "name the smallest block first, or lower BlockSizes")
            return
