"""Apptainer for hosts that have none: a small Debian tree with Apptainer in it, and the way into it.

Debian 12 cannot run the package (it needs glibc 2.38), and no stable Debian has it. The tree is built once by
mmdebstrap, unpacked below build/containers/tools/ and entered by unshare(1) and pivot_root(8).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.debian import EPOCH, write_tar
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import alone, remove_tree, unpack
from hpcstate.host import tools
from hpcstate.run import Result, run, run_with_lines, tail, which

RELEASE = "trixie"
PACKAGES = (
    "ca-certificates",
    "e2fsprogs",
    "fuse-overlayfs",
    "libseccomp2",
    "libsqlite3-0",
    "openssl",
    "squashfs-tools",
    "squashfuse",
    "tzdata",
    "uidmap",
)
"""What Apptainer loads and calls; without what it needs for networks of its own (containernetworking)."""

_ENTER = (sys.executable, "-I", Path(__file__).with_name("toolbox_enter.py"))
OF_THE_HOST = Path("/run/hpcstate")
"""Where the host's own Apptainer, called by root, sees what is bound (toolbox_enter.OWN)."""

_IDS = 65536
_LAST_OF_SYSTEMD = 0x6FFF0000
_EMPTY_FILES = ("etc/hosts", "etc/resolv.conf")
"""Apptainer reads both, and takes them into what it builds."""


@dataclass(frozen=True)
class Toolbox:
    """Where Apptainer runs: on the host (``root`` None), or in the tools root."""

    root: Path | None
    versions: Mapping[str, str] = field(default_factory=dict)

    def apptainer(
        self,
        argv: Sequence[str | Path],
        *,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = True,
        hint: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """``apptainer`` with ``argv``. ``binds`` are host paths and where the command sees them: use
        :meth:`at` for the words that name them. ``timeout`` is in seconds. ``on_line`` is told each line of
        its output as it comes (without a timeout): then all of it is ``stderr`` of the result.

        Raises HpcstateError when it runs past ``timeout`` and, with ``check``, when it exits with another
        code than 0; the message ends with its last lines.
        """
        words = self.words(["apptainer", *argv], binds or {})
        own = {"HOME": str(OF_THE_HOST)} if self.root is None and self.sealed else {}
        variables = {**_environment(), **own, **(environment or {})}
        if on_line is not None:
            both = run_with_lines(words, on_line, env=variables)
            done = replace(both, stdout="", stderr=both.stdout)
        else:
            done = run(words, env=variables, timeout=timeout, check=False, hint=hint)
        if check and done.code:
            command = next((str(word) for word in argv if not str(word).startswith("-")), "")
            raise HpcstateError(
                f"apptainer {command} exited with {done.code}:\n{tail(done.stderr or done.stdout)}", hint=hint
            )
        return done

    @property
    def sealed(self) -> bool:
        """Whether what runs is kept from this machine by namespaces of ours, besides those of Apptainer. The
        host's own Apptainer is where root calls it; an ordinary user's can do no more than that user.
        """
        return self.root is not None or is_root()

    @property
    def contained(self) -> tuple[str, ...]:
        """The options of `apptainer exec` by which a container sees nothing of the machine. Without a process
        table of its own where there is one already, in which what changes the machine is read-only: over
        that the kernel allows no other (mount_namespaces(7), "mount too revealing").
        """
        return ("--contain", "--cleanenv", "--ipc") if self.sealed else ("--containall",)

    def words(
        self,
        argv: Sequence[str | Path],
        binds: Mapping[Path, str],
        plain: Mapping[Path, str] | None = None,
    ) -> list[str | Path]:
        """The command line that runs ``argv`` where Apptainer is; ``plain`` as in :func:`entered`."""
        if not self.sealed:
            return list(argv)
        return entered(self.root or Path("/"), argv, binds, plain=plain)

    def at(self, path: Path, binds: Mapping[Path, str]) -> str:
        """How a command sees ``path``, which lies at or below one of ``binds``."""
        if not self.sealed:
            return str(path)
        above = "" if self.root else str(OF_THE_HOST)
        for source, target in binds.items():
            if path == source:
                return f"{above}{target}"
            if path.is_relative_to(source):
                return f"{above}{target}/{path.relative_to(source).as_posix()}"
        raise ValueError(f"{path} is not below {', '.join(map(str, binds))}")


def entered(
    root: Path,
    argv: Sequence[str | Path],
    binds: Mapping[Path, str],
    *,
    plain: Mapping[Path, str] | None = None,
    writable: bool = False,
    trusted: bool = False,
) -> list[str | Path]:
    """The command line that runs ``argv`` in the tree ``root``: as root of that and of nothing else, with its
    own processes, which all end with the command (hpcstate/container/toolbox_enter.py).

    Its ids are subordinate ones (subuid(5)): those of an ordinary user or, for root, :func:`id_base`.
    ``plain`` are binds that it sees as any other user does; ``writable``: it may change the tree itself.
    ``trusted``: with all rights and devices of the machine, which no foreign code may have.
    """
    words: list[str | Path] = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    words += ["--propagation", "private"]
    options: list[str | Path] = ["--trusted"] if trusted else []
    if not is_root():
        words += ["--user", "--map-root-user", "--map-auto"]
    elif not trusted:
        options += ["--ids", str(id_base(_read("/proc/self/uid_map"), _read("/etc/subuid")))]
    options += ["--writable"] if writable else []
    for source, target in (plain or {}).items():
        options += ["--plain", source, target]
    mounts = [word for bind in binds.items() for word in bind]
    return [*words, *_ENTER, *options, root, *mounts, "--", *argv]


def is_root() -> bool:
    """Whether this process has the rights of root, which nothing foreign may get."""
    return os.geteuid() == 0


def id_base(uid_map: str, subuid: str) -> int:
    """The first of 65536 user ids that root of this machine gives to what is foreign: those that subuid(5)
    gives to root, else the last that systemd has for containers (systemd's UIDS-GIDS.md).

    0 where ids are not the machine's, by ``uid_map`` (user_namespaces(7)): root is not the machine's root.
    """
    if [line.split() for line in uid_map.splitlines()] != [["0", "0", str(2**32 - 1)]]:
        return 0
    for line in subuid.splitlines():
        user, _, numbers = line.strip().partition(":")
        start, _, count = numbers.partition(":")
        if user in ("root", "0") and start.isdecimal() and count.isdecimal() and int(count) >= _IDS:
            return int(start)
    return _LAST_OF_SYSTEMD


def _read(path: str) -> str:
    """The text of ``path``, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def toolbox(store: Store) -> Toolbox:
    """The tools root, built when it is not there. It builds the containers, so that their bytes do not depend
    on what the host has. Raises HpcstateError when it cannot be built.
    """
    manifest = recipe().provide(store)
    return Toolbox(_unpacked(manifest.digest), manifest.versions)


def runner(store: Store) -> Toolbox:
    """What runs, tries and verifies containers: the host's own Apptainer where it is 1.2 or newer, else the
    tools root. Raises HpcstateError as :func:`toolbox` does.
    """
    return of_the_host() or toolbox(store)


def of_the_host() -> Toolbox | None:
    """The host's own Apptainer, None when it has none or an older one than 1.2 (the seeds' TASK-008)."""
    if which("apptainer") is None:
        return None
    version = run(["apptainer", "version"], check=False).stdout.strip()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or tuple(map(int, numbers.groups())) < (1, 2):
        return None
    return Toolbox(None, {"apptainer": version})


def key() -> str:
    """The key of the tools root: it belongs to the key of everything that it builds."""
    return recipe().key


def recipe() -> Recipe:
    """How the tar of the tools root is made."""
    return Recipe(_tar(), inputs, _make)


def inputs() -> dict[str, Any]:
    """What the tools root is made of, for its key."""
    return {
        "code": code_of("hpcstate.container.toolbox"),
        "release": RELEASE,
        "packages": list(PACKAGES),
        "apptainer": tools.load().debs["apptainer"].sha256,
    }


def _tar() -> Path:
    return paths.BUILD / "containers" / "tools" / "tools.tar"


def _make(target: Path) -> dict[str, str]:
    deb = tools.fetch_deb("apptainer")
    empty = " && ".join(f': >>"$1/{name}"' for name in _EMPTY_FILES)
    hooks = [f'cp -r --no-preserve=ownership {deb}/. "$1" && {empty}']
    versions = write_tar(target, RELEASE, PACKAGES, hooks=hooks)
    return {"apptainer": tools.load().debs["apptainer"].version, **versions}


def _unpacked(digest: str) -> Path:
    """The tree of the tar with that digest, unpacked once. An older one is removed."""
    folder = _tar().parent
    root = folder / f"root-{digest[:12]}"
    if not root.is_dir():
        with alone(folder):
            if not root.is_dir():
                _unpack_as(root)
    return root


def _unpack_as(root: Path) -> None:
    folder = root.parent
    for old in folder.glob("root-*"):
        remove_tree(old)
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=".new."))
    try:
        unpack(_tar(), aside)
        aside.chmod(0o755)
        aside.replace(root)
    except OSError as error:
        raise from_os(error) from error
    finally:
        if aside.exists():
            remove_tree(aside)


def _environment() -> dict[str, str]:
    """The environment without what would change what Apptainer does (its own variables, Python's paths)."""
    dropped = ("APPTAINER", "SINGULARITY", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "HOME": "/root"}
