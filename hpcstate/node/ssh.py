"""The nodes of a running cluster, over OpenSSH.

The nodes may be slow (under software emulation a handshake costs 1 to 2 s, a command on an open connection
half a second), so each node has one connection, opened once and shared by all commands, and shells that stay.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import urlsplit

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.log import LOG
from hpcstate.model import Cluster, Node
from hpcstate.node.known_hosts import complete_known_hosts, knows
from hpcstate.node.shell import Shell
from hpcstate.paths import ClusterPaths, shown
from hpcstate.run import Result, at_once, into, local, out_of, outlives_terminal, run, tail

SSH_USER = "admin"
"""The account of the nodes that the project's key opens. It has sudo without a password."""

SSH_HOME = "/var/lib/hpcstate/admin"
"""Its home: not in /home, which may be shared, and away with its server (hpcstate.node.homes)."""

JOB_USER = "hpc"
"""The ordinary account that runs jobs, the same on all nodes."""

User = Literal["admin", "root", "hpc"]

CONNECT_SECONDS = 20
"""How long a node may take to answer before it is called unreachable."""

IDLE_SECONDS = 120
"""How long an unused connection outlives a run that could not close it."""

ALIVE = ("ServerAliveInterval=10", "ServerAliveCountMax=3")
"""A node that is gone ends the connection after half a minute."""

SSH_FAILED = 255
"""What ssh exits with for itself (ssh(1), EXIT STATUS); a command may end so too."""
OTHER_HOST_KEY = "Host key verification failed"
"""What ssh says of a host key that is not the one it knows (OpenSSH, sshconnect.c)."""

NOT_LET_IN = "Permission denied"
"""What ssh says where no key that it has opens the account (OpenSSH, sshconnect2.c)."""

_REMOTE_255 = 254
_TIMED_OUT = 124


class UnreachableError(HpcstateError):
    """A node does not answer on SSH. ``node`` is its name."""

    def __init__(self, node: str, message: str, *, hint: str) -> None:
        super().__init__(message, where=node, hint=hint)
        self.node = node


class OtherHostKeyError(UnreachableError):
    """A node shows another host key than it was given: somebody changed it there, or it is another machine.
    ``file`` is the cluster file, for the next step."""

    def __init__(self, node: Node, file: str = "FILE") -> None:
        super().__init__(
            node.name,
            f"{node.address} answers with another host key than {node.name} was given",
            hint="does another machine have this address (`ip neigh`)? If its keys were replaced by hand: "
            f"`hpcstate stop {file} --node {node.name}` and `hpcstate start {file}` give it those of build/ "
            "again",
        )


class NotLetInError(UnreachableError):
    """A node answers, and the project's key does not open it. ``file`` is the cluster file, for the next
    step."""

    def __init__(self, node: Node, file: str = "FILE") -> None:
        super().__init__(
            node.name,
            f"{node.address} does not let the project's key in (Permission denied)",
            hint=f"`hpcstate stop {file} --node {node.name}` and `hpcstate start {file}` put it into the "
            f"authorized_keys of {SSH_USER} again, where it was taken out",
        )


class TimedOutError(HpcstateError):
    """A command on a node ran past its time and was ended."""


def demand_key(cluster: Cluster, file: Path | None = None) -> None:
    """Raises HpcstateError when there is no key for the nodes of ``cluster``: it was never started.
    ``file`` is its cluster file, for the next step."""
    key = ClusterPaths.of(cluster.name).ssh_key
    if not key.exists():
        raise HpcstateError(
            f"there is no key for the nodes of cluster {cluster.name!r}: it was never started here",
            where=shown(key),
            hint=f"./hpc up {'FILE' if file is None else shown(file)} makes the key and the cluster",
        )


class Live:
    """Commands and files on the nodes of ``cluster``. A context manager: leaving it closes the connections.

    ``nodes`` are those it is about: all declared ones, but those that :meth:`reach` leaves out. Safe to use
    from several threads.

    ``hypervisor`` runs a shell script on the machine that the nodes run on, returns what it prints and raises
    HpcstateError when it fails: this machine unless another way is given, None where the cluster's URI names
    another one.
    """

    def __init__(self, cluster: Cluster, *, hypervisor: Callable[[str], str] | None = None) -> None:
        self.cluster = cluster
        self.nodes = cluster.nodes
        self.hypervisor = hypervisor or (None if urlsplit(cluster.uri).netloc else local)
        self._paths = ClusterPaths.of(cluster.name)
        self._sockets: Path | None = None
        self._locks = {node.name: threading.Lock() for node in cluster.nodes}
        self._open: set[str] = set()
        self._dead: dict[str, UnreachableError] = {}
        self._idle: dict[tuple[str, str], list[Shell]] = {}
        self._begun: list[threading.Thread] = []

    @property
    def workers(self) -> tuple[Node, ...]:
        """The compute nodes (hpc) or the worker nodes (cloud) that are started."""
        names = {node.name for node in self.cluster.workers}
        return tuple(node for node in self.nodes if node.name in names)

    def __enter__(self) -> Self:
        demand_key(self.cluster)
        complete_known_hosts(self.cluster)
        # mkdtemp makes the folder with mode 0700. A unix socket's path is limited to 108 bytes, and ssh adds
        # a random suffix while it binds: hence a short folder of its own, not one below the build folder.
        self._sockets = Path(tempfile.mkdtemp(prefix="hpcs-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._begun:
            thread.join()
        self._begun.clear()
        for shell in [shell for idle in self._idle.values() for shell in idle]:
            shell.close()
        self._idle.clear()

        def close(name: str) -> None:
            words = [*self._ssh(name), "-O", "exit", self._target(name)]
            run(words, check=False, timeout=5, shown=f"{name}: ssh ends")

        at_once(close, sorted(self._open))
        self._open.clear()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def node(self, name: str) -> Node:
        """The declared node ``name``; raises HpcstateError when the cluster has none of that name."""
        for node in self.cluster.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.cluster.nodes)
        raise HpcstateError(f"there is no node {name!r}", where=self.cluster.name, hint=f"nodes: {known}")

    def run(
        self, node: str, script: str, *, user: User = "admin", timeout: float = 60, check: bool = True
    ) -> Result:
        """Run the shell ``script`` on ``node`` as ``user`` and return what it left.

        The script travels by standard input, so nothing of it shows in a process list; its own standard input
        is empty (srun would read the rest of the script). It starts in ``/``, and is ended on the node
        after ``timeout`` seconds.

        Raises UnreachableError when the node does not answer, TimedOutError when the script ran past its time
        and, with ``check``, HpcstateError when it ends with another code than 0.
        """
        self.connect(node)
        answer = self._answer(node, script, user, timeout)
        if answer.code == SSH_FAILED:
            raise self._unreachable(node, answer.stderr)
        if answer.code == _TIMED_OUT:
            last = tail(answer.stderr or answer.stdout, 5)
            raise TimedOutError(f"a command did not end within {timeout:.0f} s\n{last}".rstrip(), where=node)
        if check and answer.code != 0:
            last = tail(answer.stderr or answer.stdout)
            raise HpcstateError(f"a command ended with {answer.code}:\n{last}", where=node)
        return answer

    def _answer(self, node: str, script: str, user: User, timeout: float) -> Result:
        """What ``script`` left, run by a shell that stays open; SSH_FAILED where that lost its connection."""
        told = f"{node} ({user}): {programs.names(script)}"
        begun = time.monotonic()
        of = "root" if user == "root" else "admin"
        shell = self._shell(node, of)
        try:
            code, out, err = shell.run(
                _command(user, timeout), script_input(script), timeout + CONNECT_SECONDS
            )
        except TimeoutError as error:
            shell.close()
            raise HpcstateError(
                f"{told} did not end within {timeout + CONNECT_SECONDS:.0f} s",
                hint=f"is {node} still running? hpcstate status shows it",
            ) from error
        except BaseException:
            shell.close()
            raise
        if shell.ended:
            # The connection that all of them share: none of them is asked in vain.
            for each in self._idle.pop((node, "root"), []) + self._idle.pop((node, "admin"), []) + [shell]:
                each.close()
            code = SSH_FAILED if code < 0 else code  # somebody ended ssh
        else:
            self._give_back(node, of, shell)
            code = _REMOTE_255 if code == SSH_FAILED else code
        LOG.debug("%.1f s, exit %d: %s", time.monotonic() - begun, code, told)
        return Result((told,), code, out, err)

    def _shell(self, node: str, of: str) -> Shell:
        """A shell on ``node`` that nobody uses, of root or admin."""
        with self._locks[node]:
            idle = self._idle.setdefault((node, of), [])
            while idle:
                shell = idle.pop()
                if not shell.ended:
                    return shell
                shell.close()
        become = "exec sudo -n sh" if of == "root" else "exec sh"
        return Shell([*self._ssh(node), self._target(node), become])

    def _give_back(self, node: str, of: str, shell: Shell) -> None:
        """Keep ``shell`` for the next script. One is enough: a connection has ten channels (sshd_config(5),
        MaxSessions)."""
        with self._locks[node]:
            idle = self._idle.setdefault((node, of), [])
            if not idle:
                idle.append(shell)
                return
        shell.close()

    def run_each(
        self, scripts: Mapping[str, str], *, user: User = "admin", timeout: float = 60, check: bool = True
    ) -> dict[str, Result]:
        """Run one script on each node of ``scripts`` (node name to script), at the same time.

        Returns the results by node name, in the order of ``scripts``; raises what :meth:`run` raises, for the
        first node in that order.
        """

        def run_on(node: str) -> Result:
            return self.run(node, scripts[node], user=user, timeout=timeout, check=check)

        return at_once(run_on, scripts)

    def put(self, node: str, path: str, content: str, *, mode: int) -> None:
        """Write ``content`` to ``path`` on ``node`` as root with ``mode``, in one step: a reader sees the old
        file or the new one. The content travels by standard input."""
        replace = programs.replace_file(path, f"{mode:o}")
        self.run(node, f"printf %s {shlex.quote(content)} | {{\n{replace}\n}}", user="root")

    @contextmanager
    def receive(self, node: str, script: str, *, timeout: float) -> Iterator[IO[bytes]]:
        """The bytes that the shell ``script`` prints on ``node``, run as root, as they come; a block reads
        all of them. Raises UnreachableError, and HpcstateError when the script fails, with its last lines."""
        self.connect(node)
        words = [*self._ssh(node), self._target(node), remote_command("root", timeout)]
        try:
            with out_of(
                words, script_input(script).encode(), shown=f"{node} (root): {programs.names(script)}"
            ) as stream:
                yield stream
        except HpcstateError as error:
            raise HpcstateError(error.message, where=error.where or node, hint=error.hint) from error

    def send(self, node: str, script: str, chunks: Iterable[bytes], *, timeout: float) -> str:
        """Run the shell ``script`` on ``node`` as root with ``chunks`` as its standard input, and return what
        it prints. The script itself is part of a command line there: nothing of it may be secret.

        Raises UnreachableError, and HpcstateError when the script fails, with its last lines.
        """
        self.connect(node)
        shell = f"sudo -n timeout -k 5 {timeout:.0f} sh -c {shlex.quote(f'cd /{chr(10)}{script}')}"
        words = [*self._ssh(node), self._target(node), shell]
        try:
            with tempfile.TemporaryFile() as said:
                with into(words, said) as stream:
                    for chunk in chunks:
                        stream.write(chunk)
                said.seek(0)
                return said.read().decode(errors="replace")
        except HpcstateError as error:
            raise HpcstateError(error.message, where=error.where or node, hint=error.hint) from error

    def reach(self) -> dict[str, UnreachableError]:
        """Open the connections to all nodes at once and return the nodes that do not answer, by name.

        Of those, the ones that the file does not start by itself (``auto_start: false``) are left out of
        ``nodes`` from now on. The others are not waited for again: :meth:`run` refuses them at once.
        """

        def failure(name: str) -> UnreachableError | None:
            try:
                self.run(name, "true", timeout=CONNECT_SECONDS)
            except UnreachableError as error:
                return error
            except HpcstateError as error:
                return UnreachableError(name, error.message, hint=error.hint)
            return None

        self._dead = {}
        nodes = self.cluster.nodes
        failures = at_once(failure, [node.name for node in nodes])
        self._dead = {name: error for name, error in failures.items() if error}
        self.nodes = tuple(node for node in nodes if node.auto_start or node.name not in self._dead)
        return self._dead

    def transport(self, node: str) -> tuple[str, str]:
        """For a program that brings its own words to ssh, as rsync does with ``-e``: the command line of ssh,
        which shares the open connection to ``node``, and the target. Raises UnreachableError.
        """
        self.connect(node)
        return shlex.join(self._ssh(node)), self._target(node)

    def answers(self, name: str) -> bool:
        """Whether ``name`` answered :meth:`reach`."""
        return name not in self._dead

    def demand(self, name: str) -> None:
        """Raise UnreachableError when ``name`` did not answer :meth:`reach`."""
        if name in self._dead:
            raise self._dead[name]

    def _target(self, name: str) -> str:
        return f"{SSH_USER}@{self.node(name).address}"

    def _ssh(self, name: str) -> list[str]:
        if self._sockets is None:
            raise HpcstateError("Live is used outside its with block", where=name)
        return ssh_command(self._paths, self._sockets / f"{self.cluster.nodes.index(self.node(name))}")

    def connect(self, name: str) -> None:
        """Open the connection to ``name`` unless it is open; raises UnreachableError where none is had.
        One thread at a time, or there would be two."""
        self.node(name)
        self.demand(name)
        with self._locks[name]:
            if name in self._open:
                return
            # -f: ssh goes to the background once it is logged in, and lets go of our pipes.
            opened = run(
                [*self._ssh(name), "-M", "-N", "-f", self._target(name)],
                timeout=CONNECT_SECONDS + 10,
                check=False,
                shown=f"{name}: ssh connects",
                own_group=outlives_terminal(),
            )
            if opened.code != 0:
                raise self._unreachable(name, opened.stderr)
            self._open.add(name)

    def connect_soon(self, names: Iterable[str]) -> None:
        """Begin to open the connections to ``names``: :meth:`connect` waits for them and says what failed."""

        def begin(name: str) -> None:
            with suppress(HpcstateError):
                self.connect(name)

        for name in names:
            thread = threading.Thread(target=begin, args=(name,), daemon=True)
            self._begun.append(thread)
            thread.start()

    def _unreachable(self, name: str, stderr: str) -> UnreachableError:
        lines = [line for line in stderr.strip().splitlines() if line]
        why = lines[-1] if lines else "the connection ended"
        address = self.node(name).address
        if OTHER_HOST_KEY in stderr:
            known = self._paths.known_hosts
            if known.is_file() and knows(known.read_text(errors="replace"), str(address)):
                return OtherHostKeyError(self.node(name))
            return UnreachableError(
                name,
                f"there is no host key of {name} ({address}) here",
                hint="`hpcstate start FILE` makes those that are missing, and the nodes that are new",
            )
        if NOT_LET_IN in stderr:
            return NotLetInError(self.node(name))
        return UnreachableError(
            name,
            f"{address} does not answer on SSH: {why}",
            hint="does it run? `hpcstate status FILE`; `hpcstate start FILE` shows a silent node's console",
        )


def ssh_command(paths: ClusterPaths, socket: Path) -> list[str]:
    """``ssh`` as a script needs it: this cluster's key and host keys only, no question ever asked, and one
    connection shared through ``socket``."""
    options = (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={option_value(paths.known_hosts)}",
        "GlobalKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f"ConnectTimeout={CONNECT_SECONDS}",
        *ALIVE,
        f"ControlPath={option_value(socket)}",
        f"ControlPersist={IDLE_SECONDS}",
        "LogLevel=ERROR",
    )
    identity = f"-oIdentityFile={option_value(paths.ssh_key)}"
    return ["ssh", "-F", "/dev/null", identity, *(f"-o{option}" for option in options)]


def option_value(path: Path) -> str:
    """``path`` as ssh_config(5) reads it back, in a file and behind ``-o``: quoted where it has to be, and
    ``%`` begins no token. Raises HpcstateError for one that ssh cannot have: nothing takes its meaning from
    ``${NAME}``."""
    text = str(path)
    if re.fullmatch(r"[\w./@+,:=-]+", text, re.ASCII):
        return text
    if "${" in text or "\n" in text:
        raise HpcstateError(
            "ssh cannot take a path with `${` or a line break in it",
            where=repr(text),
            hint="move the project, or set HPCSTATE_BUILD to a folder of another name",
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def remote_command(user: User, timeout: float) -> str:
    """The command line given to the node's login shell: a shell of ``user`` that reads its script from
    standard input and is ended after ``timeout`` seconds.

    ``timeout`` runs as ``user``: it may end only its own user's processes. 255 is kept for ssh itself.
    """
    become = "sudo -n " if user == "root" else ""
    return f"{become}{_command(user, timeout)}; c=$?; [ $c -ne {SSH_FAILED} ] || c={_REMOTE_255}; exit $c"


def _command(user: User, timeout: float) -> str:
    """The same in a shell of admin's, or of root's where root is meant."""
    become = f"sudo -n -H -u {JOB_USER} " if user == "hpc" else ""
    return f"{become}timeout -k 5 {timeout:.0f} sh -s"


def script_input(script: str) -> str:
    """``script`` as one compound command: the shell reads all of it before it runs the first line, so that no
    command in it can eat the rest, and each gets an empty standard input."""
    return f"{{\ncd /\n{script}\n}} </dev/null\n"
