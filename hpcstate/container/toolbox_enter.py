"""Run a command in another root, where it is nobody on this machine:
``toolbox_enter.py [OPTION]... [--ids BASE] ROOT [SOURCE TARGET]... -- COMMAND...``

What runs here is foreign: the steps of a definition, the tests and programs of a container. So root in here
is the user id BASE out there, the files of ROOT and of the SOURCEs are shown to it as they are on the disk
(idmapped mounts, mount_setattr(2)), and nothing else of the machine is there. A ROOT of ``/`` is this
machine's own, as that user id sees it, with the SOURCEs below /run/hpcstate: for an Apptainer that is
installed here.

In namespaces of its own (toolbox.py makes them): what is mounted here ends with the command.
pivot_root and not chroot: the kernel refuses a chroot'ed process the user namespace that Apptainer runs in
(user_namespaces(7), EPERM). By system calls, for a tree need not have umount(8). Standard library only.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

COUNT = 65536
"""Ids of a user namespace: what Debian's users and groups need, nobody (65534) included."""

OWN = Path("/run/hpcstate")
"""Where the SOURCEs are when ROOT is the machine's own."""

PROC = ".proc"
"""Of the tree, where a process table is mounted whole."""

# mount(2), umount2(2), unshare(2), mount_setattr(2), prctl(2): the same numbers on all machines.
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 1, 2, 4, 8, 4096, 16384
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = -100, 0x1000, 0x8000, 1, 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_IDMAP = 1, 0x100000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, KEYCTL_JOIN_SESSION_KEYRING = 1, 22, 2, 1
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
SYS_IOCTL = {"x86_64": (16, 54, 0x40000000 + 514), "aarch64": (29, 54)}
"""Of the machine itself, of its 32-bit programs, and of x32."""

READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
"""Of /proc, what changes the machine: the readonlyPaths of OCI runtimes (runc, buildah, Docker)."""

DEVICES = ("fuse", "full", "null", "random", "tty", "urandom", "zero")
"""What the tree has of /dev: no disks, and no memory or queues that are shared with the machine."""

TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX write into the terminal's input: what was typed there would be run by the user's own
shell when the command has ended (ioctl_tty(2); Linux 6.2 can forbid it)."""

Pairs = Sequence[Sequence[str]]
"""Of each a path, and where it is shown."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    words = (source.encode(), bytes(target), kind.encode() or None, flags, options.encode() or None)
    _check(_libc.mount(*words), str(target))


def bind(source: Path, target: Path) -> None:
    """Show ``source`` and what is mounted below it at ``target``. Raises OSError."""
    mount(str(source), target, flags=MS_BIND | MS_REC)


def place(source: Path, target: Path, below: Path) -> None:
    """Make ``target`` a folder or a file, as ``source`` is. Raises OSError, also when a link of the tree
    ``below`` leads out of it.
    """
    if not target.resolve().is_relative_to(below.resolve()):
        raise OSError(errno.ELOOP, "a link in the tree leads out of it", str(target))
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def show(source: Path, target: Path, users: int) -> None:
    """Show ``source`` at ``target`` with the owners that it has on the disk, to the user namespace ``users``.

    Where the file system of ``source`` cannot, as any other user sees it. Raises OSError, also when that
    would be nothing.
    """
    tree = _call(SYS_OPEN_TREE, AT_FDCWD, bytes(source), OPEN_TREE_CLONE, name=str(source))
    try:
        try:
            _attributes(tree, b"", AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, users)
        except OSError as error:
            if source.stat().st_mode & 0o007 < (0o005 if source.is_dir() else 0o004):
                raise OSError(
                    error.errno,
                    f"its file system cannot be shown to a container ({error.strerror}; idmapped mounts:"
                    " Linux 5.12 and ext4, xfs or btrfs, from 6.3 on tmpfs). Put build/ on such a disk"
                    " (HPCSTATE_BUILD), or run this as an ordinary user",
                    str(source),
                ) from error
        _call(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, bytes(target), MOVE_MOUNT_F_EMPTY_PATH, name=str(target))
    finally:
        os.close(tree)


def read_only(target: Path) -> None:
    """Make ``target``, a mount, and all that is mounted below it read-only. Raises OSError."""
    _attributes(AT_FDCWD, bytes(target), AT_RECURSIVE, MOUNT_ATTR_RDONLY)


def user_namespace(base: int) -> int:
    """A user namespace, in which ids are those from ``base`` on; with 0 those that this process sees. Its
    descriptor. Raises OSError.
    """
    said, say = os.pipe()
    wait, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end)
            _check(_libc.unshare(CLONE_NEWUSER), "a user namespace")
            # Its number in the process table that is mounted, which is the one outside.
            os.write(say, bytes(Path("/proc/self").readlink()))
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(say)
    try:
        number = os.read(said, 20).decode()
        if not number:
            raise OSError(1, "this machine gives no user namespace (user_namespaces(7))", "unshare")
        for kind in ("uid_map", "gid_map"):
            seen = [line.split() for line in Path("/proc/self", kind).read_text().splitlines()]
            lines = [f"0 {base} {COUNT}"] if base else [f"{words[0]} {words[0]} {words[2]}" for words in seen]
            Path("/proc", number, kind).write_text("\n".join(lines) + "\n")
        return os.open(f"/proc/{number}/ns/user", os.O_RDONLY)
    finally:
        for descriptor in (said, wait, end):
            os.close(descriptor)
        os.waitpid(child, 0)


def furnish(root: Path, base: int, *, own: bool) -> None:
    """Mount in ``root`` what a program expects; ``own``: in that of the machine. Raises OSError."""
    # Apptainer unpacks a .sif in a container with a process table of its own, which the kernel allows only
    # where a whole one is to be seen (mount_too_revealing of fs/namespace.c). What it starts does not see it.
    whole = OWN / "proc" if own else root / PROC
    for path in (root / "proc", whole):
        mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in READ_ONLY:
        if (path := root / "proc" / name).exists():
            bind(path, path)
            read_only(path)
    bind(Path("/sys"), root / "sys")
    read_only(root / "sys")
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    if not own:
        mount("tmpfs", root / "root", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=700,uid={base},gid={base}")
        _devices(root / "dev", base)
    elif Path("/dev/fuse").exists():
        _device("fuse", OWN / "fuse")
        bind(OWN / "fuse", Path("/dev/fuse"))


def _devices(at: Path, base: int) -> None:
    mount("tmpfs", at, "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name in DEVICES:
        if not (device := Path("/dev", name)).exists():
            continue
        if base:
            _device(name, at / name)
        else:
            (at / name).touch()
            bind(device, at / name)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (at / name).symlink_to(f"/proc/self/fd{target}")
    for name in ("pts", "shm"):
        (at / name).mkdir()
    mount("devpts", at / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    (at / "ptmx").symlink_to("pts/ptmx")
    mount("tmpfs", at / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def _device(name: str, at: Path) -> None:
    """Make the device ``name`` of /dev once more, for everybody: /dev/fuse, by which Apptainer mounts
    containers, may be for root alone out there.
    """
    os.mknod(at, stat.S_IFCHR, Path("/dev", name).stat().st_rdev)
    at.chmod(0o666)


def enter(root: Path, binds: Pairs, plain: Pairs, base: int, *, writable: bool) -> None:
    """Make ``root``, with ``binds`` in it, the root of this process, and this process root of nothing else.
    What is ``plain`` is shown as any other user sees it. Raises OSError.
    """
    users = user_namespace(base)
    own = root == Path("/")
    below = OWN if own else root
    pairs = [(Path(source), below / target.lstrip("/"), True) for source, target in plain]
    pairs += [(Path(source), below / target.lstrip("/"), False) for source, target in binds]
    if own:
        OWN.mkdir(exist_ok=True)
        mount("tmpfs", OWN, "tmpfs", MS_NOSUID, f"mode=700,uid={base},gid={base}")
    # Before the tree is shown: where ids are not those of the machine, this process can make nothing.
    for source, target, _ in pairs:
        place(source, target, below)
    for name in ("proc",) if own else (".outside", PROC, "dev", "proc", "root", "sys", "tmp"):
        place(root, below / name, below)
    if not own:
        (show if base else bind)(root, root, *([users] if base else []))
    for source, target, as_other in pairs:
        if base and not as_other:
            show(source, target, users)
        else:
            bind(source, target)
    furnish(root, base, own=own)
    if not own:
        pivot(root)
        if not writable:
            _attributes(AT_FDCWD, b"/", 0, MOUNT_ATTR_RDONLY)
    become_nobody(users)


def pivot(root: Path) -> None:
    """Make the mount ``root`` the root, and the one before it gone. Raises OSError."""
    os.chdir(root)
    _call(SYS_PIVOT_ROOT[os.uname().machine], b".", b".outside", name=str(root))
    _check(_libc.umount2(b"/.outside", MNT_DETACH), "/.outside")
    os.chdir("/")


def become_nobody(users: int) -> None:
    """Enter the user namespace ``users``; what is mounted can neither be removed there nor made writable
    (mount_namespaces(7), locked mounts). Raises OSError.
    """
    _call(SYS_KEYCTL[os.uname().machine], KEYCTL_JOIN_SESSION_KEYRING, None, name="keyctl")
    _check(_libc.setns(users, CLONE_NEWUSER), "setns")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    # The change of ids has taken back what unshare(1) asked for: to end with it.
    _check(_libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl")
    _refuse_terminal_input()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _refuse_terminal_input() -> None:
    """By a filter of system calls (seccomp(2), bpf(4)): the number is one of SYS_IOCTL, the second argument
    one of TERMINAL_INPUT.
    """
    load, equal, answer = 0x20, 0x15, 0x06
    calls, requests = SYS_IOCTL[os.uname().machine], TERMINAL_INPUT
    allow, refuse = 0x7FFF0000, 0x00050000 | 1
    steps = [(load, 0, 0, 0)]
    steps += [(equal, len(calls) - n, 0, call) for n, call in enumerate(calls)]
    steps += [(answer, 0, 0, allow), (load, 0, 0, 24)]
    steps += [(equal, len(requests) - n, 0, request) for n, request in enumerate(requests)]
    steps += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filter_ = struct.pack("HP", len(steps), ctypes.addressof(program))
    words = (ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.c_char_p(filter_), 0, 0)
    _check(_libc.prctl(PR_SET_SECCOMP, *words), "seccomp")


def enter_as_it_is(root: Path, binds: Pairs) -> None:
    """Make ``root``, with ``binds`` and all of the machine's devices in it, the root of this process, which
    keeps its rights: for what is ours. Raises OSError.
    """
    bind(root, root)
    mount("proc", root / "proc", "proc")
    for name in ("sys", "dev"):
        bind(Path("/", name), root / name)
    mount("tmpfs", root / "tmp", "tmpfs")
    for source, target in binds:
        at = root / target.lstrip("/")
        place(Path(source), at, root)
        bind(Path(source), at)
    (root / ".outside").mkdir(exist_ok=True)
    pivot(root)


def _attributes(folder: int, path: bytes, flags: int, attributes: int, users: int = 0) -> None:
    """mount_setattr(2): set ``attributes``."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, users)
    _call(SYS_MOUNT_SETATTR, folder, path, flags, wanted, len(wanted), name=os.fsdecode(path))


def _call(number: int, *words: int | bytes | None, name: str) -> int:
    long = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    return _check(_libc.syscall(ctypes.c_long(number), *long), name)


def _check(result: int, name: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def main(words: list[str]) -> None:
    """The command line."""
    end = words.index("--")
    command = words[end + 1 :]
    parser = argparse.ArgumentParser()
    parser.add_argument("--ids", metavar="BASE", type=int, default=0)
    parser.add_argument("--writable", action="store_true")
    parser.add_argument("--trusted", action="store_true")
    parser.add_argument("--plain", metavar=("SOURCE", "TARGET"), nargs=2, action="append", default=[])
    parser.add_argument("root", type=Path)
    parser.add_argument("binds", nargs="*")
    args = parser.parse_args(words[:end])
    binds = list(zip(args.binds[::2], args.binds[1::2], strict=True))
    try:
        if args.trusted:
            enter_as_it_is(args.root, binds)
        else:
            enter(args.root, binds, args.plain, args.ids, writable=args.writable)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{error.filename or command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
