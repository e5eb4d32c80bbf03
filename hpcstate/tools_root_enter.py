"""Run a command in another root: ``tools_root_enter.py ROOT [SOURCE=TARGET]... -- COMMAND...``

In namespaces of its own (hpcstate/tools_root.py makes them): what is mounted here ends with the command.
pivot_root and not chroot: the kernel refuses a chroot'ed process the user namespace that Apptainer runs in
(user_namespaces(7), EPERM). By system calls, for a tree need not have umount(8). Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# mount(2), umount2(2): the kernel's numbers, the same on all architectures.
MS_BIND, MS_REC, MNT_DETACH = 4096, 16384, 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str = "", flags: int = 0) -> None:
    """mount(2). Raises OSError."""
    _check(_libc.mount(source.encode(), bytes(target), kind.encode() or None, flags, None), str(target))


def bind(source: Path, target: Path) -> None:
    """Show ``source`` and what is mounted below it at ``target``, which is made. Raises OSError."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, flags=MS_BIND | MS_REC)


def enter(root: Path, binds: list[str]) -> None:
    """Make ``root``, with ``binds`` in it, the root of this process. Raises OSError."""
    bind(root, root)
    mount("proc", root / "proc", "proc")
    for name in ("sys", "dev"):
        bind(Path("/", name), root / name)
    mount("tmpfs", root / "tmp", "tmpfs")
    for one in binds:
        source, target = one.rsplit("=", 1)
        bind(Path(source), root / target.lstrip("/"))
    os.chdir(root)
    Path(".outside").mkdir(exist_ok=True)
    _check(_libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b".outside"), str(root))
    _check(_libc.umount2(b"/.outside", MNT_DETACH), "/.outside")
    os.chdir("/")


def _check(result: int, name: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def main(words: list[str]) -> None:
    """The command line."""
    end = words.index("--")
    try:
        enter(Path(words[0]), words[1:end])
        os.execvp(words[end + 1], words[end + 1 :])
    except OSError as error:
        print(f"{error.strerror}: {error.filename or words[end + 1]}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
