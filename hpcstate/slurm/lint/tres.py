"""Trackable resources (TRES) in a slurm.conf: what slurmctld knows, and weights of what it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.slurm.read import Record, Whole

STATIC = frozenset(("billing", "cpu", "energy", "fs/disk", "mem", "node", "pages", "vmem"))
"""What Slurm counts without a database as well (src/common/read_config.h, DEFAULT_ACCOUNTING_TRES)."""

_NAMED = ("bb", "fs", "gres", "ic", "license")
"""The types that have names, as ``gres/gpu``."""

_NUMBER = re.compile(
    r"\s*[-+]?(?:0x[0-9a-f]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf(?:inity)?|nan|)",
    re.IGNORECASE | re.ASCII,
)


def configured(whole: Whole) -> frozenset[str]:
    """The TRES that the file sets up, in lower case (src/common/read_config.c: gres/gpu brings two more)."""
    listed = frozenset(part for part in whole.value("AccountingStorageTRES").split(",") if part)
    more = ("gres/gpumem", "gres/gpuutil") if "gres/gpu" in listed else ()
    return STATIC | listed | frozenset(more)


def tres_problems(whole: Whole) -> Iterator[Problem]:
    """src/slurmctld/controller.c, _init_tres."""
    database = "slurmdbd" in whole.value("AccountingStorageType")
    for part in whole.value("AccountingStorageTRES").split(","):
        kind, slash, name = part.partition("/")
        if not part or part in STATIC or part.startswith("fs/disk"):
            continue
        if kind not in _NAMED or not slash:
            hint = "GRES are written gres/gpu" if re.match("(gpu|gres|mps|shard)", part) else ""
            message = f'"{part}" is no TRES: slurmctld stops'
            yield whole.problem(
                "AccountingStorageTRES", message, hint or "cpu, mem, node, gres/..., license/..."
            )
        elif not name:
            yield whole.problem("AccountingStorageTRES", f"{part} has no name: slurmctld stops", "")
        elif whole.complete and not database:
            message = f"{part} needs a slurmdbd: slurmctld stops"
            hint = "remove it, or set up slurmdbd and write AccountingStorageType=accounting_storage/slurmdbd"
            yield whole.problem("AccountingStorageTRES", message, hint)
            return


def weight_problems(whole: Whole, record: Record | None, key: str) -> Iterator[Problem]:
    """What is wrong with the weights of a record, or of a plain key where it is None
    (src/common/slurm_protocol_api.c, slurm_get_tres_weight_array and _tres_weight_item).
    """
    value = record.attributes.get(key.lower(), "") if record else whole.value(key)
    known = configured(whole) if whole.complete else None
    for item in value.split(","):
        if item and (why := _refusal(item, known)):
            hint = "write CPU=1,Mem=0.25G,GRES/gpu=8"
            name = item.lstrip("=").partition("=")[0]
            if "not configured" in why:
                hint = f"write AccountingStorageTRES={name.lower()}, with a slurmdbd" if "/" in name else ""
            message = f"{why}: slurmctld stops"
            yield record.problem(key, message, hint) if record else whole.problem(key, message, hint)


def _refusal(item: str, known: frozenset[str] | None) -> str:
    name, _, weight = item.lstrip("=").partition("=")
    if not name or not weight:
        return f"{item} is no weight of a TRES"
    if known is not None and name.lower() not in known:
        return f'"{name}" is not configured as a TRES'
    found = _NUMBER.match(weight)
    rest = weight[found.end() :] if found else weight
    if rest and rest[0] not in "KMGTPkmgtp":
        more = " (a comma parts them)" if rest[0] == " " and "=" in rest else ""
        return f"{item} is no weight of a TRES{more}"
    return ""
