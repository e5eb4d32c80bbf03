"""The quotas of users on a file system: whether they count and hold, and what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError


class QuotasState(TypedDict):
    """``feature``: whether the file system, an ext4, has the feature, empty where there is none; ``on``:
    limits hold; ``boot`` is the digest of the files of the service that adds the feature, empty where there
    are none, and ``enabled`` whether it starts. ``limits`` are hard limits in KiB by the number of a user,
    where there is one; ``used`` is KiB. ``record`` are the numbers of users whose limit is ours.
    """

    programs: bool
    feature: Literal["", "yes", "no"]
    on: bool
    boot: str
    enabled: bool
    limits: dict[int, int]
    used: dict[int, int]
    record: list[int]


def command(top: str, device: str, record: str, files: list[str], unit: str, root: str = "") -> str:
    """The program quotas.sh for the file system of ``device``, mounted at ``top``; ``files`` are those of the
    service ``unit``. ``root`` is put before ``record`` and ``files``."""
    program = Path(__file__).with_name("quotas.sh")
    return programs.command(
        program, arguments=files, top=top, device=device, record=record, unit=unit, root=root
    )


def parse(text: str) -> QuotasState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = QuotasState(
        programs=False, feature="", on=False, boot="", enabled=False, limits={}, used={}, record=[]
    )
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if line == "programs":
            state["programs"] = True
        elif key == "feature" and rest in ("yes", "no"):
            state["feature"] = "yes" if rest == "yes" else "no"
        elif line == "on":
            state["on"] = True
        elif line == "enabled":
            state["enabled"] = True
        elif key == "boot" and rest:
            state["boot"] = rest
        elif key == "record" and rest.isdecimal():
            state["record"].append(int(rest))
        elif key == "row":
            _take_row(state, rest)
        else:
            raise HpcstateError(f"this is no answer of quotas.sh: {line!r}")
    return state


def _take_row(state: QuotasState, row: str) -> None:
    """A line of `repquota -n -O csv` (repquota(8)): user, two states, then KiB used, soft and hard limit."""
    words = row.split(",")
    if len(words) < 6 or not (words[0].startswith("#") and words[0][1:].isdecimal()):
        raise HpcstateError(f"this is no answer of repquota: {row!r}")
    if not (words[3].isdecimal() and words[5].isdecimal()):
        raise HpcstateError(f"this is no answer of repquota: {row!r}")
    uid = int(words[0][1:])
    state["used"][uid] = int(words[3])
    if hard := int(words[5]):
        state["limits"][uid] = hard
