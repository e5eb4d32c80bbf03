"""What records the jobs of a cluster on its controller: MariaDB, slurmdbd, their files, and what they answer.

Written against Slurm 24.11 and MariaDB 11.8. Everything that could wait has a time limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

UNITS = ("mariadb", "slurmdbd")


class AccountingFile(TypedDict):
    """``sha256`` is hexadecimal, ``mode`` octal digits as chmod takes them, ``owner`` is ``user:group``."""

    sha256: str
    mode: str
    owner: str


class AccountingUnit(TypedDict):
    """A unit of systemd: whether its package is there, it runs, it starts at boot."""

    installed: bool
    active: bool
    enabled: bool


class AccountingState(TypedDict):
    """``files`` by path; ``applied`` the sha256 by name of what the daemons were last started with; ``units``
    by name. ``databases`` and ``grants`` are empty where MariaDB does not answer; a grant is in its words.
    ``answers``: slurmdbd answers, which it does with its database only. ``cluster_id`` is the number that
    slurmdbd gave to the cluster, 0 for one that it does not know; ``state`` is slurmctld's own note of it
    (``lab|2967``), empty before its first start.
    """

    files: dict[str, AccountingFile]
    applied: dict[str, str]
    units: dict[str, AccountingUnit]
    databases: list[str]
    grants: list[str]
    answers: bool
    cluster_id: int
    state: str


def command(
    cluster: str,
    files: Sequence[str],
    *,
    database: str,
    user: str,
    client: str,
    applied: str,
    clustername: str,
) -> str:
    """The program accounting.sh, for the Slurm cluster named ``cluster`` and the paths ``files``; its head
    says what the others are (hpcstate.slurm.accounting.question)."""
    return programs.command(
        Path(__file__).with_name("accounting.sh"),
        arguments=[cluster, *files],
        database=database,
        user=user,
        client=client,
        applied=applied,
        clustername=clustername,
    )


def parse(text: str) -> AccountingState:
    """What ``command`` printed. Raises HpcstateError for anything else."""
    state = AccountingState(
        files={}, applied={}, units={}, databases=[], grants=[], answers=False, cluster_id=0, state=""
    )
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        words = rest.split(" ", 3)
        if key == "file" and len(words) == 4:
            state["files"][words[3]] = AccountingFile(sha256=words[0], mode=words[1], owner=words[2])
        elif key == "applied" and len(words) == 2:
            state["applied"][words[1]] = words[0]
        elif key == "unit" and len(words) == 4:
            load, active, enabled, name = words
            state["units"][name] = AccountingUnit(
                installed=load != "not-found", active=active == "active", enabled=enabled == "enabled"
            )
        elif key == "database" and rest:
            state["databases"].append(rest)
        elif key == "grant" and rest:
            state["grants"].append(rest)
        elif line == "answers":
            state["answers"] = True
        elif key == "cluster" and rest.isascii() and rest.isdecimal():
            state["cluster_id"] = int(rest)
        elif key == "state" and rest:
            state["state"] = rest
        else:
            raise HpcstateError(
                f"this is no answer of accounting.sh: {line!r}", hint="ask it by hand on the controller"
            )
    return state
