"""Slurm's view of its nodes, jobs and configuration, and the daemons of one host.

Written against Slurm 24.11. Every client call stands behind ``scontrol ping``: with slurmctld down it answers
within 10 ms, while ``squeue`` and ``scontrol show`` wait 9 s before they give up (measured with 24.11.5).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError

DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "munge")
"""The daemons of a Slurm host: the names of their Debian packages and of their systemd units."""

STATES_HOLDING_RESOURCES = (
    "running",
    "configuring",
    "completing",
    "suspended",
    "stopped",
    "signaling",
    "stage_out",
    "resizing",
)
"""The job states in which a job may have processes or allocations on its nodes (squeue(1))."""

SECRET_FILES = ("slurmdbd.conf",)
"""Never read into facts: slurmdbd.conf holds the database's password (StoragePass)."""


class SlurmNode(TypedDict):
    """One node as slurmctld sees it. ``memory_mb`` is MiB; ``gres``, ``gres_used`` are in Slurm's notation.

    ``states`` is the base state and its flags (``["MIXED", "DRAIN"]``); ``reason`` may have several lines.
    ``reason_since`` is when it was set, in seconds since 1970 (UTC), 0 where there is none.
    ``gres`` is what slurmd reported, which for ``INVALID_REG`` is less than slurm.conf says. ``extra`` is the
    text in its field Extra (hpcstate.node.runs).
    """

    states: list[str]
    reason: str
    reason_user: str
    reason_since: int
    gres: str
    gres_used: str
    cpus: int
    cpus_alloc: int
    memory_mb: int
    version: str
    extra: str


class SlurmDaemon(TypedDict):
    """One daemon of a host: its upstream version (``24.11.5``, empty when not installed) and its unit."""

    installed: bool
    version: str
    active: bool
    enabled: bool


def when_slurmctld_answers(command: str) -> str:
    """``command`` behind a ping; prints nothing where Slurm is absent or slurmctld silent."""
    return (
        'case "$(timeout 10 scontrol ping 2>/dev/null)" in '
        f'*" is UP"*) timeout 30 {command} 2>/dev/null || : ;; '
        "esac"
    )


def nodes_command() -> str:
    """All the nodes, as JSON; nothing where Slurm is absent or slurmctld silent. For root, who reads
    slurm.conf whatever its mode is."""
    return when_slurmctld_answers("scontrol show nodes --json")


def parse_nodes(text: str) -> dict[str, SlurmNode]:
    """The nodes by name; {} for no text.

    Raises HpcstateError when the JSON is truncated or lacks what this Slurm must have: an answer that cannot
    be understood is not an empty cluster.
    """
    if not text.strip():
        return {}
    try:
        return {node["name"]: _node(node) for node in json.loads(text)["nodes"]}
    except json.JSONDecodeError as error:
        raise HpcstateError(
            f"the output of scontrol show nodes --json is no whole JSON: {error}",
            hint="run it by hand on the node: it may have been cut off by its time limit of 30 s",
        ) from error
    except (KeyError, TypeError) as error:
        raise HpcstateError(
            f"scontrol show nodes --json has another shape than that of Slurm 24.11: {error!r}",
            hint="compare the node's Slurm version (scontrol --version) with the one hpcstate is written for",
        ) from error


def _node(node: dict[str, Any]) -> SlurmNode:
    return SlurmNode(
        states=list(node["state"]),
        reason=node["reason"],
        reason_user=node["reason_set_by_user"],
        reason_since=_number(node.get("reason_changed_at", 0)),
        gres=node["gres"],
        gres_used=node["gres_used"],
        cpus=_number(node["cpus"]),
        cpus_alloc=_number(node["alloc_cpus"]),
        memory_mb=_number(node["real_memory"]),
        version=node["version"],
        extra=node.get("extra") or "",
    )


def _number(value: Any) -> int:
    """An integer, which Slurm's data parsers write plainly or as {"set", "infinite", "number"}."""
    if isinstance(value, dict):
        value = value["number"]
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no integer")
    return value


def jobs_command(node: str) -> str:
    """The program slurm_jobs.sh: the jobs that hold resources on ``node``, and who answers for it."""
    states = ",".join(STATES_HOLDING_RESOURCES)
    return programs.command(Path(__file__).with_name("slurm_jobs.sh"), arguments=[node, states])


def parse_jobs(text: str) -> list[int]:
    """The job ids of ``jobs_command``, sorted; [] also for a node that Slurm does not know.

    Raises HpcstateError when nobody could say which jobs there are: that is not the same as none.
    """
    header, *lines = text.splitlines() or ["absent"]
    source, _, node = header.partition(" ")
    if source == "absent" or any("Invalid node name" in line for line in lines):
        return []
    ids = {re.sub(r"^slurmstepd: \[", "", line.strip()) for line in lines if line.strip()}
    if source not in ("slurmctld", "slurmstepd") or not all(job.isdecimal() for job in ids):
        said = "; ".join(lines) or "slurmctld does not answer"
        raise HpcstateError(
            f"cannot tell whether jobs hold resources: {said}",
            where=node,
            hint="start slurmctld and munge (scontrol ping must say UP), or ask on the node itself",
        )
    return sorted(int(job) for job in ids)


def files_command(directory: str) -> str:
    """The program slurm_files.sh: the ``*.conf`` files of ``directory``, without those that hold secrets."""
    return programs.command(Path(__file__).with_name("slurm_files.sh"), arguments=[directory, *SECRET_FILES])


def parse_files(text: str) -> dict[str, str]:
    """The contents by file name; {} for no text.

    Raises HpcstateError when the contents do not add up to the sizes: a file changed while it was read, is
    unreadable, or is not UTF-8.
    """
    if not text.strip():
        return {}
    table, _, joined = text.partition("\n\n")
    contents = joined.encode()
    entries = [(int(size), name) for size, _, name in (line.partition(" ./") for line in table.splitlines())]
    total = sum(size for size, _ in entries)
    if len(contents) == total - 1:
        contents += b"\n"  # pyinfra hands lines over without their ends, so the last newline is lost
    if len(contents) != total:
        raise HpcstateError(
            f"the configuration files are {total} bytes long, but {len(contents)} bytes were read",
            hint="a file changed while it was read, or is not UTF-8; run again",
        )
    files: dict[str, str] = {}
    start = 0
    for size, name in entries:
        files[name] = contents[start : start + size].decode()
        start += size
    return files


def running_config_command() -> str:
    """The configuration slurmctld runs with; nothing where Slurm is absent or slurmctld silent."""
    return when_slurmctld_answers("scontrol show config")


def parse_running_config(text: str) -> dict[str, str]:
    """``Key = value`` lines by key, in slurm.conf's spelling; ``(null)`` becomes the empty string.

    The plugins' sections (cgroup, MPI) are included, as their keys are distinct from slurm.conf's.
    """
    config: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and re.fullmatch(r"\w+(\[\d+\])?", key.strip()):
            value = value.strip()
            config[key.strip()] = "" if value in ("(null)", "(null type)") else value
    return config


def daemons_command() -> str:
    """The packages of the daemons, an empty line, and what systemd says of their units.

    dpkg is asked, not the programs: ``slurmdbd -V`` fails where slurmdbd.conf is not complete (24.11.5).
    """
    packages = " ".join(DAEMONS)
    units = " ".join(f"{daemon}.service" for daemon in DAEMONS)
    return (
        "dpkg-query --showformat='${Package} ${db:Status-Status} ${Version}\\n' "
        f"--show {packages} 2>/dev/null; echo; "
        f"timeout 10 systemctl show --property=Id,ActiveState,UnitFileState {units} 2>/dev/null || :"
    )


def read_command(directory: str) -> str:
    """Which ``*.conf`` of ``directory`` each daemon may have read."""
    return programs.command(Path(__file__).with_name("slurm_read.sh"), arguments=[directory])


def parse_read(text: str) -> dict[str, list[str]]:
    """The names of the files that were changed before the daemon started, by daemon (``slurmctld``,
    ``slurmd``); [] for one that does not run.

    Raises HpcstateError for a line that is not of the program.
    """
    read: dict[str, list[str]] = {"slurmctld": [], "slurmd": []}
    for line in text.splitlines():
        daemon, _, name = line.partition(" ")
        if daemon not in read or not name:
            raise HpcstateError(f"this is no answer of slurm_read.sh: {line!r}")
        read[daemon].append(name)
    return {daemon: sorted(names) for daemon, names in read.items()}


def parse_daemons(text: str) -> dict[str, SlurmDaemon]:
    """Each daemon of DAEMONS, by name; one that is absent is neither installed, active nor enabled.

    Raises HpcstateError for a line that is none of dpkg-query's.
    """
    packages, _, properties = text.partition("\n\n") if not text.startswith("\n") else ("", "", text)
    versions: dict[str, str] = {}
    for line in packages.splitlines():
        fields = line.split(" ")
        if len(fields) != 3:
            raise HpcstateError(f"this is no answer of dpkg-query: {line!r}")
        package, status, version = fields
        if status == "installed":
            versions[package] = version.rpartition(":")[2].rpartition("-")[0] or version
    units: dict[str, dict[str, str]] = {}
    for block in properties.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        units[unit.get("Id", "")] = unit
    return {
        daemon: SlurmDaemon(
            installed=daemon in versions,
            version=versions.get(daemon, ""),
            active=units.get(f"{daemon}.service", {}).get("ActiveState") in ("active", "reloading"),
            enabled=units.get(f"{daemon}.service", {}).get("UnitFileState") == "enabled",
        )
        for daemon in DAEMONS
    }
