"""What the compute nodes have: Slurm's files, GPUs, devices, control groups. One command on each, as root."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from hpcstate import hostlist
from hpcstate.node.ssh import Live
from hpcstate.probe import cgroup, gpu, slurm, text_files
from hpcstate.probe.cgroup import Cgroup
from hpcstate.probe.gpu import Gpus
from hpcstate.probe.text_files import TextFileState
from hpcstate.slurm.conf import CONF_DIRECTORY
from hpcstate.slurm.read import statements
from tests.suites.breaking import CGROUP_CONF, GRES_CONF
from tests.suites.job_view import SCOPES

SLURMD_SECONDS = 20
"""How long `slurmd -G` may look for GPUs. With a GPU that fell off the bus, a library can wait for ever."""

_SECTION = "=== section "
_FILE_KEYS = frozenset(("file", "files", "multiplefiles"))


@dataclass(frozen=True)
class DeviceFile:
    """A file below /dev: ``kind`` as stat(1) has it (``character special file``), ``mode`` octal."""

    kind: str
    major: int
    minor: int
    mode: str


@dataclass(frozen=True)
class NodeState:
    """One node. ``files`` are gres.conf and cgroup.conf by path, ``contents`` the *.conf files by name.

    ``mounted`` is the type of the file system at /sys/fs/cgroup; ``scope`` is Slurm's own control group
    (version 0: there is none), ``delegated`` whether systemd leaves it alone. ``slurmd`` is what
    `slurmd -G` printed.
    """

    name: str
    files: Mapping[str, TextFileState]
    contents: Mapping[str, str]
    gpus: Gpus
    devices: Mapping[str, DeviceFile]
    mounted: str
    scope: Cgroup
    delegated: bool
    slurmd: str


@pytest.fixture(scope="session")
def node_states(live: Live) -> dict[str, NodeState]:
    """The compute nodes by name."""
    for node in live.workers:
        live.demand(node.name)
    script = _script()
    answers = live.run_each({node.name: script for node in live.workers}, user="root")
    return {name: parse(name, answer.stdout) for name, answer in answers.items()}


def _script() -> str:
    gres_conf = shlex.quote(GRES_CONF)
    parts = {
        "files": text_files.command((GRES_CONF, CGROUP_CONF)),
        "contents": f"({slurm.files_command(CONF_DIRECTORY)})",
        "gpus": f"({gpu.command()})",
        "devices": "set -- /dev/nvidia* "
        f"$(sed -n 's/.*[Ff]iles*=\\([^ ]*\\).*/\\1/p' {gres_conf} | tr ',' ' '); "
        "stat -L -c '%t %T %a %F|%n' -- \"$@\" 2>/dev/null",
        "mounted": "stat -f -c %T /sys/fs/cgroup",
        "scope": f"(cd {SCOPES} 2>/dev/null && {{ {cgroup.command('.', '/dev/null')}; }})",
        "delegated": f"(cd {SCOPES} 2>/dev/null && "
        'systemctl show --property=Delegate --value "${PWD##*/}")',
        "slurmd": f'timeout {SLURMD_SECONDS} slurmd -G 2>&1 || echo "slurmd -G ended with $?"',
    }
    return "\n".join(f"echo '{_SECTION}{name}'\n{part}\necho" for name, part in parts.items())


def parse(name: str, text: str) -> NodeState:
    """What the script said on the node ``name``.

    Raises HpcstateError or LookupError when the answer is not whole.
    """
    parts = dict(part.partition("\n")[::2] for part in text.split(_SECTION)[1:])
    sections = {section: part.removesuffix("\n") for section, part in parts.items()}
    return NodeState(
        name=name,
        files=text_files.parse(sections["files"]),
        contents=slurm.parse_files(sections["contents"]),
        gpus=gpu.parse(sections["gpus"]),
        devices=dict(map(_device, sections["devices"].splitlines())),
        mounted=sections["mounted"].strip(),
        scope=cgroup.parse(sections["scope"]),
        delegated=sections["delegated"].strip() == "yes",
        slurmd=sections["slurmd"].strip(),
    )


def _device(line: str) -> tuple[str, DeviceFile]:
    fields, _, path = line.partition("|")
    major, minor, mode, kind = fields.split(" ", 3)
    return path, DeviceFile(kind, int(major, 16), int(minor, 16), mode)


def gres_files(text: str) -> tuple[str, ...]:
    """The device files that a gres.conf names, each once, in their order."""
    found = [
        file
        for statement in statements(text, "gres")
        for pair in statement.pairs
        if pair.key.lower() in _FILE_KEYS
        for file in hostlist.expand(pair.value)
    ]
    return tuple(dict.fromkeys(found))


def slurmd_gpus(text: str) -> dict[str, int]:
    """How many GPUs of each type `slurmd -G` reports: ``{"simulated": 2}``."""
    counts: dict[str, int] = {}
    for found in re.finditer(r"Gres Name=gpu Type=(\S+) Count=(\d+)", text):
        counts[found[1]] = counts.get(found[1], 0) + int(found[2])
    return counts


def owned_by_root(state: NodeState, path: str) -> Sequence[str]:
    """What is wrong with the owner and mode of a file that everybody reads and only root may write."""
    file = state.files.get(path)
    if file is None:
        return [f"{state.name} has no {path}"]
    seen = f"{file['owner']} {file['mode']}"
    return [] if seen == "root:root 644" else [f"{state.name}: {path} is {seen}"]
