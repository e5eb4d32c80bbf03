"""The program that runs Slurm's daemons in a throwaway root, inside namespaces that hold nothing else.

``hpcstate.judge.judge`` starts it with unshare(1) as the first process of a process namespace, root of a user
namespace of its own, with a network that reaches nobody. It reads a Case as JSON on standard input and prints
a Hearing as JSON. Whatever it leaves behind (mounts, processes, files in memory) ends with it.

The daemons run as SlurmUser, in a second user namespace where only that user exists: slurmd started as root
drops its groups, which a user namespace of an ordinary user forbids (user_namespaces(7), setgroups).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

ROOT = Path("/mnt")
"""Where the throwaway root is mounted: a folder that every system has, covered in this namespace only."""

SLURM = "slurm"
"""The user of Debian's packages, which the image has."""

START_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Said:
    """What one daemon said: ``program`` and the ``node`` it stood for, its exit code, None if it ran on."""

    program: str
    node: str
    code: int | None
    output: str


class Program:
    """A program of the throwaway root that runs as ``user``; its output is kept in memory."""

    def __init__(self, words: Sequence[str], user: str, **environment: str) -> None:
        uid, gid = _ids(user)
        enter = ["unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", f"--root={ROOT}", "--wd=/"]
        self._log = os.memfd_create("output")
        self._process = subprocess.Popen(
            [*enter, *words],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **environment},
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def output(self) -> str:
        """Everything that it said so far."""
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode(errors="replace")

    def said(self, program: str, node: str = "") -> Said:
        """What it said, and its exit code if it ended; ``program`` is how it is called in messages."""
        return Said(program, node, self._process.poll(), self.output())

    def stop(self) -> None:
        """Ask it to end, as systemd does, and wait for it."""
        if not self.ended:
            self._process.terminate()
            until(lambda: self.ended, START_SECONDS)

    def close(self) -> None:
        """End it at once if it still runs, and forget what it said."""
        if not self.ended:
            self._process.kill()
        self._process.wait()
        os.close(self._log)


def _ids(user: str) -> tuple[str, str]:
    """User and group number of ``user`` (name or number) in the image; of slurm where it is not there."""
    rows = [line.split(":") for line in (ROOT / "etc/passwd").read_text().splitlines()]
    found = {name: (row[2], row[3]) for row in rows if len(row) > 3 for name in (row[2], row[0])}
    return found.get(user) or found[SLURM]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds, at most so many ``seconds``. Whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def call(*words: str, check: bool = True) -> int:
    """Run a program of this machine and return its exit code; with ``check``, raise OSError for one but 0."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.returncode


_DEVICES = ("null", "zero", "random", "urandom")
_REGISTER_SECONDS = 10.0
_SLURMCTLD_SECONDS = 30.0
"""10,000 nodes on a machine with other work took more than ten."""
_END_SECONDS = 1.0
RUNNING = "Running as primary controller"
WAITING = re.compile("Waiting for gres.conf file|retrying in 1sec up to 60sec")
"""What a daemon says while it waits for a file that will not come."""
_DECIDED = re.compile(rf"{RUNNING}|: fatal: |{WAITING.pattern}")
_SLURMD_PORT = 20000
_AUTH_KEY = "slurm.key"
"""Beside slurm.conf, closed to others (src/plugins/auth/slurm/internal.c, init_internal)."""


@dataclass(frozen=True)
class Case:
    """What is to be judged.

    ``files`` are those of /etc/slurm by name, or of an absolute one, the same on every node; ``gres`` the
    gres.conf of each node; ``overrides`` of slurm.conf are appended for the daemons named (``slurmctld``,
    ``slurmd``). ``controller`` is the name this machine takes, ``addresses`` are put on its loopback.
    ``hosts`` is /etc/hosts, name to address. ``devices`` are the device files of gres.conf, ``folders`` those
    that the configuration names, ``user`` is SlurmUser. The nodes in ``autodetect`` do not register: what
    they would report depends on their hardware. With ``own_auth`` the daemons find a key of auth/slurm, made
    for this hearing alone.
    """

    root: str
    files: dict[str, str]
    gres: dict[str, str]
    overrides: dict[str, dict[str, str]]
    controller: str
    addresses: list[str]
    hosts: dict[str, str]
    devices: list[str]
    folders: list[str]
    user: str
    autodetect: list[str]
    own_auth: bool = False


@dataclass(frozen=True)
class Registered:
    """A node after its slurmd registered, in the words of ``scontrol show node``."""

    name: str
    state: str
    reason: str


@dataclass
class Hearing:
    """All that was said. ``nodes`` were asked for one of each kind only."""

    said: list[Said] = field(default_factory=list)
    nodes: list[Registered] = field(default_factory=list)

    @classmethod
    def from_json(cls, text: str) -> Hearing:
        """Read what the program printed. Raises ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        return cls(
            [Said(**entry) for entry in data["said"]], [Registered(**entry) for entry in data["nodes"]]
        )


def main() -> int:
    """Hear the case on standard input."""
    case = Case(**json.loads(sys.stdin.read()))
    print(json.dumps(asdict(hear(case))))
    return 0


def hear(case: Case) -> Hearing:
    """Build the root, run the daemons, and keep what they say."""
    if case.own_auth:
        case = replace(case, files=case.files | {_AUTH_KEY: secrets.token_hex(512)})
    _build_root(case)
    hearing = Hearing()
    with Program(["/usr/sbin/munged", "--foreground"], case.user) as munged:
        socket = ROOT / "run/munge/munge.socket.2"
        until(lambda: socket.exists() or munged.ended, START_SECONDS)
        if munged.ended or not socket.exists():
            hearing.said.append(munged.said("munged"))
            return hearing
        words = ["/usr/sbin/slurmctld", "-D", "-c", "-v"]
        with Program(words, case.user, SLURM_CONF=_conf("slurmctld")) as slurmctld:
            until(
                lambda: slurmctld.ended or _DECIDED.search(slurmctld.output()) is not None, _SLURMCTLD_SECONDS
            )
            runs = RUNNING in slurmctld.output() and not slurmctld.ended
            if not runs:
                until(lambda: slurmctld.ended, _END_SECONDS)
            kinds = _kinds(case) if runs else _kinds_of_gres(case)
            _read_as_they_are(case, next(iter(kinds), ""), hearing)
            if runs:
                _register(
                    case, [kind for kind in kinds.values() if kind.name not in case.autodetect], hearing
                )
                slurmctld.stop()
            for kind in kinds.values():
                if not runs or kind.name in case.autodetect:
                    _print_gres(case, kind, hearing)
            hearing.said.append(slurmctld.said("slurmctld"))
    return hearing


def _conf(daemon: str, node: str = "") -> str:
    """The slurm.conf of a daemon, from the root; files beside it are found by it (get_extra_conf_path)."""
    return f"/etc/slurm/{daemon}{'.' + node if node else ''}/slurm.conf"


def _build_root(case: Case) -> None:
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(ROOT))
    call("tar", "-C", str(ROOT), "-xf", case.root)
    for folder in ("proc", "dev", "tmp", "run/munge", "etc/munge", "var/lib/munge", "var/log/munge"):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    for folder in case.folders:
        _below(folder).mkdir(parents=True, exist_ok=True)
    if call("mount", "-t", "proc", "proc", str(ROOT / "proc"), check=False):
        # Where parts of /proc are covered, as in a container, the kernel allows no fresh one.
        call("mount", "--rbind", "/proc", str(ROOT / "proc"))
    for name in _DEVICES:
        _device(ROOT / "dev" / name, f"/dev/{name}")
    for name in case.devices:
        _device(_below(name), "/dev/null")
    _write_conf("slurmctld", case.files | {"gres.conf": ""}, case.overrides["slurmctld"])
    call("hostname", case.controller)
    call("ip", "link", "set", "lo", "up")
    for address in case.addresses:
        call("ip", "address", "add", address, "dev", "lo", check=False)
    hosts = {"localhost": "127.0.0.1", **case.hosts}
    (ROOT / "etc/hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    key = ROOT / "etc/munge/munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _below(path: str) -> Path:
    """``path`` of the configuration, inside the throwaway root whatever it says."""
    return ROOT / os.path.normpath("/" + path).lstrip("/")


def _device(at: Path, source: str) -> None:
    """A user namespace cannot make device nodes, but it can bind one; slurmd looks at the kind only."""
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.exists():
        at.touch()
        call("mount", "--bind", source, str(at))


def _write_conf(name: str, files: dict[str, str], overrides: dict[str, str]) -> None:
    """Overrides come last: Slurm takes the last of several values, and the lines keep their numbers."""
    folder = _below(f"/etc/slurm/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"\n{key}={value}" for key, value in overrides.items())
    for file_name, text in files.items():
        at = _below(file_name if file_name.startswith("/") else f"/etc/slurm/{name}/{file_name}")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.touch(mode=0o600 if file_name == _AUTH_KEY else 0o666)
        at.write_text(text + (lines + "\n" if file_name == "slurm.conf" and lines else ""))


def _scontrol(case: Case, *words: str) -> str:
    with Program(["/usr/bin/scontrol", *words], case.user, SLURM_CONF=_conf("slurmctld")) as scontrol:
        until(lambda: scontrol.ended, START_SECONDS)
        return scontrol.output()


@dataclass(frozen=True)
class _Kind:
    """A node that stands for all with its hardware and GRES, and its gres.conf but for the name.

    ``hwloc`` is the hardware as hwloc(7) takes it (HWLOC_SYNTHETIC).
    """

    name: str
    hwloc: str = "pack:1 core:1 pu:1"


def _kinds(case: Case) -> dict[str, _Kind]:
    """The kinds of nodes, as slurmctld sees them, by the node that stands for each."""
    found: dict[tuple[str, ...], _Kind] = {}
    for line in _scontrol(case, "--oneliner", "show", "nodes").splitlines():
        values = dict(re.findall(r"(\w+)=(\S+)", line))
        if name := values.get("NodeName", ""):
            counts = (values.get(key, "1") for key in ("Sockets", "CoresPerSocket", "ThreadsPerCore"))
            hwloc = "pack:{} core:{} pu:{}".format(*counts)
            found.setdefault((hwloc, values.get("Gres", ""), _nameless(case, name)), _Kind(name, hwloc))
    return {kind.name: kind for kind in found.values()}


def _kinds_of_gres(case: Case) -> dict[str, _Kind]:
    """Without a slurmctld to ask: a node for each gres.conf."""
    found = {_nameless(case, name): _Kind(name) for name in reversed(case.gres)}
    return {kind.name: kind for kind in reversed(found.values())}


def _nameless(case: Case, node: str) -> str:
    return re.sub(rf"\b{re.escape(node)}\b", "%n", case.gres.get(node, ""))


def _slurmd_conf(case: Case, node: str, **overrides: str) -> None:
    own = case.files | {"gres.conf": case.gres.get(node, ""), "cgroup.conf": "CgroupPlugin=disabled\n"}
    spool = f"/var/lib/slurm/slurmd.{node}"
    _below(spool).mkdir(parents=True, exist_ok=True)
    overrides |= {"SlurmdSpoolDir": spool, "SlurmdPidFile": f"{spool}/slurmd.pid"}
    _write_conf(f"slurmd.{node}", own, case.overrides["slurmd"] | overrides)


def _slurmd(kind: _Kind, option: str, conf: str) -> Program:
    words = ["/usr/sbin/slurmd", option, "-N", kind.name]
    return Program(words, SLURM, SLURM_CONF=conf, HWLOC_SYNTHETIC=kind.hwloc)


def _read_as_they_are(case: Case, node: str, hearing: Hearing) -> None:
    """``slurmd -G`` with the files as they are: it reads all but gres.conf, then looks for control groups."""
    if node:
        _write_conf("slurmd", case.files | {"gres.conf": ""}, {})
        with _slurmd(_Kind(node), "-G", _conf("slurmd")) as slurmd:
            until(lambda: _has_read(slurmd), START_SECONDS)
            hearing.said.append(slurmd.said("slurmd -G"))


def _print_gres(case: Case, kind: _Kind, hearing: Hearing) -> None:
    """``slurmd -G`` reads gres.conf, prints the GRES of the node, and ends (slurmd(8))."""
    _slurmd_conf(case, kind.name)
    with _slurmd(kind, "-G", _conf("slurmd", kind.name)) as slurmd:
        until(lambda: _has_read(slurmd), START_SECONDS)
        hearing.said.append(slurmd.said("slurmd -G", kind.name))


def _has_read(slurmd: Program) -> bool:
    return slurmd.ended or WAITING.search(slurmd.output()) is not None


def _register(case: Case, kinds: Sequence[_Kind], hearing: Hearing) -> None:
    """Let a slurmd for each kind register with slurmctld, which compares what it reports with slurm.conf."""
    daemons: dict[str, Program] = {}
    for index, kind in enumerate(kinds):
        _slurmd_conf(case, kind.name, SlurmdPort=str(_SLURMD_PORT + index))
        daemons[kind.name] = _slurmd(kind, "-D", _conf("slurmd", kind.name))
    nodes: dict[str, Registered] = {}

    def all_known() -> bool:
        for line in _scontrol(case, "--oneliner", "show", "node", ",".join(daemons)).splitlines():
            if found := _registered(line):
                nodes[found.name] = found
        return all(name in nodes or _has_read(daemon) for name, daemon in daemons.items())

    if daemons:
        until(all_known, _REGISTER_SECONDS)
    for name, daemon in daemons.items():
        daemon.stop()
        hearing.said.append(daemon.said("slurmd", name))
        daemon.close()
    hearing.nodes = list(nodes.values())


def _registered(line: str) -> Registered | None:
    """A node of ``scontrol --oneliner show node``, None before its slurmd registered."""
    name = re.search(r"\bNodeName=(\S+)", line)
    state = re.search(r"\bState=(\S+)", line)
    if not name or not state or "SlurmdStartTime=None" in line or "SlurmdStartTime=" not in line:
        return None
    reason = re.search(r"\bReason=(.*?)(?: \[[^\]]*\]|\s*$)", line)
    return Registered(name[1], state[1], reason[1] if reason else "")


if __name__ == "__main__":
    sys.exit(main())
