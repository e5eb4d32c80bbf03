"""Small files of Slurm that its daemons judged, and how to ask them again.

daemons/cases.toml has the files, daemons/recorded.json what slurmctld and slurmd of the judge's root made of
them. ``python -m tests.unit.slurm.daemon_cases [NAME ...]`` asks the daemons about the cases named, with
``--all`` about each one, else about those that are new or were changed, and writes down what they did. It
takes the judge's root of the image hpc-base, or that of ``--root TAR``.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.store import Store
from hpcstate.digest import key_of
from hpcstate.judge import judge, messages
from hpcstate.judge import root as judge_root
from hpcstate.judge.case import Configuration, case_of, configuration_of_files
from hpcstate.judge.inside import RUNNING, Hearing
from hpcstate.slurm.keys import Kind

FOLDER = Path(__file__).parent / "daemons"
RECORDED = FOLDER / "recorded.json"
BASE = {
    "ClusterName": "lab",
    "SlurmctldHost": "ctl(192.0.2.1)",
    "SlurmUser": "slurm",
    "StateSaveLocation": "/var/lib/slurm/slurmctld",
    "SlurmdSpoolDir": "/var/lib/slurm/slurmd",
    "SelectType": "select/cons_tres",
    "ProctrackType": "proctrack/linuxproc",
}
"""What the slurm.conf of a case begins with; the daemons take it without a complaint."""
NODES = "NodeName=n[1-2] CPUs=4 RealMemory=1000\n"
PARTITION = "PartitionName=p Nodes=ALL Default=YES\n"
_NOT_OF_THE_CASE = re.compile(
    # The judge's own: overrides are appended, and the daemon of a node reads other files than slurmctld.
    r"1 specified more than once, latest value used|/sys/fs/cgroup|initialize cgroup plugin"
    r"|slurmd initialization failed"
    # The throwaway root has no programs; a partition of a case has no Default.
    r"|health_check|default partition not set|power_save program /bin/true not exec|SuspendProgram /bin/true"
)


@dataclass(frozen=True)
class Outcome:
    """What the daemons made of a case.

    ``did``: ``slurmctld`` or ``slurmd`` stopped, the node became ``invalid``, an error was only ``logged``,
    or all was ``good``. ``words`` are what was said, the one that ended a daemon first; ``of`` is the
    digest of the files.
    """

    did: str
    words: tuple[str, ...]
    of: str

    @property
    def stops(self) -> bool:
        """Whether a daemon, or a node, was of no use."""
        return self.did in ("slurmctld", "slurmd", "invalid")


def cases() -> dict[str, dict[str, str]]:
    """Each case by name: file name to text."""
    data = tomllib.loads((FOLDER / "cases.toml").read_text(encoding="utf-8"))
    files = {name: {"slurm.conf": text} for name, text in data["slurm"].items()} | data["files"]
    return {name: {**some, "slurm.conf": _whole(some["slurm.conf"])} for name, some in files.items()}


def _whole(lines: str) -> str:
    own = {line.partition("=")[0].strip().lower() for line in lines.splitlines()}
    if {"controlmachine"} & own:
        own.add("slurmctldhost")
    text = "".join(f"{key}={value}\n" for key, value in BASE.items() if key.lower() not in own)
    text += f"{lines}\n"
    text += NODES if "nodename" not in own else ""
    return text + (PARTITION if "partitionname" not in own else "")


def recorded() -> dict[str, Outcome]:
    """What was recorded, by the name of the case."""
    if not RECORDED.exists():
        return {}
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {name: Outcome(row["did"], tuple(row["words"]), row["of"]) for name, row in data.items()}


def digest(files: Mapping[str, str]) -> str:
    """Of the files of a case: a record of other files is worth nothing."""
    return key_of(dict(files))[:12]


def ask(files: Mapping[str, str], root: Path) -> Outcome:
    """Let the daemons of ``root`` (a tar) read the files of a case."""
    kinds: dict[Kind, str] = {"slurm": files["slurm.conf"]}
    if "gres.conf" in files:
        kinds["gres"] = files["gres.conf"]
    found = configuration_of_files(kinds, files.get)
    rest = {name: text for name, text in files.items() if name != "gres.conf"}
    hearing = judge.hear(case_of(Configuration({**rest, **found.files}, found.gres), root))
    return outcome(hearing, digest(files))


def outcome(hearing: Hearing, of: str = "") -> Outcome:
    """What a hearing comes to, by the daemons' own ends: not by how hpcstate words them."""
    did, ends, words = "good", [], []
    for said in sorted(hearing.said, key=lambda said: said.program != "slurmctld"):
        lines = [line for line in messages.lines(said.output) if not _NOT_OF_THE_CASE.search(line.text)]
        words += [f"{line.level}: {line.text}" for line in lines]
        ended = [f"{line.level}: {line.text}" for line in lines if line.level == "fatal"]
        # A slurmctld that runs may take longer to end than it is waited for.
        runs = said.code == 0 or (said.code is None and RUNNING in said.output)
        stopped = bool(ended) or (said.program == "slurmctld" and not runs)
        if said.program != "slurmctld":
            # A slurmd of a throwaway root ends for want of control groups.
            stopped = bool(ended) or (bool(said.code) and "/sys/fs/cgroup" not in said.output)
        if stopped and did == "good":
            did, ends = "slurmctld" if said.program == "slurmctld" else "slurmd", ended
    for node in hearing.nodes:
        if "INVALID_REG" in node.state and did == "good":
            did, ends = "invalid", [f"{node.name}: {node.reason}"]
    if did == "good" and words:
        did = "logged"
    return Outcome(did, tuple(dict.fromkeys([*ends, *words]))[:4], of)


def root_of_image() -> Path:
    """The judge's root of the image hpc-base. Raises JudgeUnavailableError where it is not built."""
    image = paths.image("hpc-base")
    key = judge.image_key(image)
    if not key:
        raise judge.JudgeUnavailableError("the image hpc-base is not built here", hint="./hpc build_images")
    recipe = judge_root.recipe(image, key)
    recipe.provide(Store.default())
    return recipe.path


def main() -> None:
    """Ask, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    root = args.root or root_of_image()
    table, known = cases(), recorded()
    wanted = args.names or [
        name
        for name, files in table.items()
        if args.all or name not in known or known[name].of != digest(files)
    ]
    known = {name: row for name, row in known.items() if name in table}
    with ThreadPoolExecutor(args.jobs) as pool:
        for name, found in zip(wanted, pool.map(lambda name: ask(table[name], root), wanted), strict=True):
            known[name] = found
            print(f"{name}: {found.did}", *found.words[:2], sep="\n    ", flush=True)
            _write(table, known)


def _write(order: Iterable[str], known: Mapping[str, Outcome]) -> None:
    rows = [
        f"{json.dumps(name)}: "
        + json.dumps({"did": row.did, "words": row.words, "of": row.of}, ensure_ascii=True)
        for name in order
        if (row := known.get(name))
    ]
    RECORDED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
