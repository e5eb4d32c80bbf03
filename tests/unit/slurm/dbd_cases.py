"""Small slurmdbd.conf files that slurmdbd 24.11.5 of Debian 13 judged, and how to ask it again.

daemons/slurmdbd.toml has the files, daemons/slurmdbd.json what slurmdbd made of them with a MariaDB. As root,
``mmdebstrap --variant=apt --include=slurmdbd,mariadb-server-core,mariadb-client-core,munge trixie ROOT``
makes a root, and ``python -m tests.unit.slurm.dbd_cases ROOT`` asks about the files that are new or were
changed, ``--all`` about each one. The judge's root of an image (daemon_cases.py) has no slurmdbd.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

from hpcstate.digest import key_of
from hpcstate.judge import messages
from tests.unit.slurm.daemon_cases import FOLDER, Outcome

RECORDED = FOLDER / "slurmdbd.json"
BASE = {
    "DbdHost": "localhost",
    "SlurmUser": "slurm",
    "StorageType": "accounting_storage/mysql",
    "StorageUser": "slurm",
    "PidFile": "/run/slurm/slurmdbd.pid",
}
"""What a file of the table begins with; slurmdbd takes it without a complaint."""
_OF_THE_ROOT = ("Database settings not recommended values", "_xgetaddrinfo: ")
"""What slurmdbd says of the small database and of the network that it does not have, and not of the file."""


def cases() -> dict[str, str]:
    """Each file by its name in the table. A key that it has is left out of BASE."""
    table = tomllib.loads((FOLDER / "slurmdbd.toml").read_text(encoding="utf-8"))["slurmdbd"]
    return {name: _whole(lines) for name, lines in table.items()}


def _whole(lines: str) -> str:
    own = {line.partition("=")[0].strip().lower() for line in lines.splitlines()}
    own |= {line.removeprefix("no ").lower() for line in lines.splitlines() if line.startswith("no ")}
    text = "".join(f"{key}={value}\n" for key, value in BASE.items() if key.lower() not in own)
    return text + "".join(f"{line}\n" for line in lines.splitlines() if not line.startswith("no "))


def recorded() -> dict[str, Outcome]:
    """What was recorded, by the name of the file; ``did`` is slurmdbd, waits, logged or good."""
    if not RECORDED.exists():
        return {}
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {name: Outcome(row["did"], tuple(row["words"]), row["of"]) for name, row in data.items()}


def digest(text: str) -> str:
    """Of a file: a record of another text is worth nothing."""
    return key_of({"slurmdbd.conf": text})[:12]


def outcome(end: str, log: str, of: str) -> Outcome:
    """What ``end`` (of slurmdbd.sh) and what was said come to."""
    lines = [line for line in messages.lines(log) if not any(word in line.text for word in _OF_THE_ROOT)]
    lines.sort(key=lambda line: line.level != "fatal")
    words = tuple(dict.fromkeys(f"{line.level}: {line.text}" for line in lines))[:4]
    if end in ("waits", "none"):
        return Outcome("waits", words, of)
    return Outcome("slurmdbd" if end != "started" else "logged" if words else "good", words, of)


def ask(files: dict[str, str], root: Path) -> dict[str, Outcome]:
    """Let slurmdbd of ``root``, a folder, read each file. Needs root's rights; the host's are not touched."""
    judge = root / "judge"
    shutil.rmtree(judge, ignore_errors=True)
    judge.mkdir()
    # The first slurmdbd makes the database, and then stops at its own query (seen with 24.11.5).
    for name, text in {"0": _whole(""), **files}.items():
        (judge / f"{name}.conf").write_text(text, encoding="utf-8")
    shutil.copy(FOLDER / "slurmdbd.sh", judge / "judge.sh")
    inside = (
        'hostname ctl; ip link set lo up; cd "$0"; mount --rbind /dev dev; mount -t proc proc proc;'
        " mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp; chmod 1777 tmp;"
        " mkdir -p var/lib/judge;"
        " mount -t tmpfs -o size=600m,mode=755 tmpfs var/lib/judge;"
        " exec chroot . sh /judge/judge.sh"
    )
    unshare = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
    subprocess.run([*unshare, "sh", "-eu", "-c", inside, str(root)], check=True, timeout=3600)
    return {
        name: outcome(
            (judge / f"{name}.end").read_text(encoding="utf-8").strip(),
            (judge / f"{name}.log").read_text(encoding="utf-8", errors="replace"),
            digest(text),
        )
        for name, text in files.items()
    }


def main() -> None:
    """Ask, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    table, known = cases(), recorded()
    wanted = {
        name: text
        for name, text in table.items()
        if args.all or name not in known or known[name].of != digest(text)
    }
    known |= ask(wanted, args.root)
    for name in wanted:
        print(f"{name}: {known[name].did}", *known[name].words[:2], sep="\n    ")
    rows = [
        f"{json.dumps(name)}: "
        + json.dumps({"did": known[name].did, "words": known[name].words, "of": known[name].of})
        for name in table
    ]
    RECORDED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
