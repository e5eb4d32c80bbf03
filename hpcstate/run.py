"""The only door to subprocesses."""

from __future__ import annotations

import logging
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from hpcstate.errors import HpcstateError
from hpcstate.programs import names

T = TypeVar("T")
R = TypeVar("R")

_LOG = logging.getLogger("hpcstate.run")
_LAST_WORDS_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """What a finished command left: exit code and output, decoded with replacement."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
    hint: str = "",
    shown: str = "",
    own_group: bool = False,
) -> Result:
    """Run ``argv`` to its end and return its output; standard input is ``stdin`` or empty.

    ``timeout`` is in seconds. ``shown`` is what the log says in the place of ``argv``. With ``own_group`` the
    signals of a terminal reach this process only, and the command ends with it. Secrets are passed by
    ``stdin`` or a file, never in ``argv``.

    Raises HpcstateError when the program is missing, when it ran past ``timeout``, or, with ``check``,
    when it exits with another code than 0; the message ends with its last lines.
    """
    words = tuple(str(word) for word in argv)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    begun = time.monotonic()
    try:
        done = subprocess.run(
            words,
            input=data if data is not None else b"",
            capture_output=True,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            timeout=timeout,
            check=False,
            process_group=0 if own_group else None,
        )
    except FileNotFoundError as error:
        raise HpcstateError(
            f"the program {words[0]!r} is not installed", hint="./hpc installs what is missing"
        ) from error
    except subprocess.TimeoutExpired as error:
        told = shown or _short(words)
        _LOG.debug("%.1f s, ended by its time limit: %s", time.monotonic() - begun, told)
        raise HpcstateError(f"{told} did not end within {timeout:.0f} s", hint=hint) from error
    result = Result(
        words, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    _LOG.debug("%.1f s, exit %d: %s", time.monotonic() - begun, result.code, shown or _short(words))
    if check and result.code != 0:
        raise HpcstateError(
            f"{words[0]} exited with {result.code}:\n{tail(result.stderr or result.stdout)}", hint=hint
        )
    return result


def outlives_terminal() -> bool:
    """Whether this process ignores an interrupt or the end of its terminal (nohup, ``&`` in a script)."""
    return signal.SIG_IGN in (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP))


def _short(words: Sequence[str]) -> str:
    """A command line for the log, in one line of at most 300 characters; a program in it by its name."""
    text = " ".join(names(word) if "\n" in word else shlex.quote(word) for word in words)
    return text if len(text) <= 300 else f"{text[:297]}..."


CLEAR_UP_SECONDS = 10
"""How long an interrupted command may take to clear up before it is killed."""


def run_visibly(argv: Sequence[str | Path], *, cwd: Path | None = None) -> int:
    """Run ``argv`` with its output going straight to the terminal, and return its exit code.

    A terminal's interrupt reaches both: the command may clear up, but it never outlives this process.

    Raises HpcstateError when the program is missing.
    """
    words = _bound(argv)
    sys.stdout.flush()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, cwd=cwd) as process:
        try:
            return process.wait()
        except BaseException:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLEAR_UP_SECONDS)
            process.kill()
            raise


def hand_over(argv: Sequence[str | Path], *, hold: str) -> tuple[int, str]:
    """Run ``argv`` with this process's own input, output and terminal, and return its exit code; where a
    signal ended it, 128 and its number, as shells do. It never outlives this process.

    What it says on standard error is passed on as it comes, unless it begins with ``hold``: then all of it is
    returned, and nothing shown. Raises HpcstateError when the program is missing.
    """
    words = _bound(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            held = _pass_on(process.stderr.fileno(), process.pid, hold.encode())
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    return 128 - code if code < 0 else code, held.decode(errors="replace")


def _pass_on(source: int, pid: int, hold: bytes) -> bytes:
    """Copy the file descriptor ``source`` to standard error as it comes, until the process ``pid`` has ended;
    what begins with ``hold`` is returned instead."""
    begun, decided, held = b"", False, b""
    ended = os.pidfd_open(pid)
    try:
        for chunk in _chunks(source, ended):
            begun += b"" if decided else chunk
            if not decided and len(begun) < len(hold) and hold.startswith(begun):
                continue
            said, decided = chunk if decided else begun, True
            if begun.startswith(hold):
                held += said
            else:
                _write_all(said)
        if not decided:
            _write_all(begun)
    finally:
        os.close(ended)
    return held


def _chunks(source: int, ended: int) -> Iterator[bytes]:
    """What comes by ``source``, to its end, or to a second after ``ended`` (pidfd_open(2)) says that the
    program has: what it has left behind (a shared connection of ssh) may keep the other end open for ever.
    """
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0, deadline - time.monotonic())
        ready, _, _ = select.select([source] if deadline else [source, ended], [], [], left)
        if source in ready:
            chunk = os.read(source, 1 << 16)
            if not chunk:
                return
            yield chunk
        elif ended in ready:
            deadline = time.monotonic() + _LAST_WORDS_SECONDS
        else:
            return


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


def _bound(argv: Sequence[str | Path]) -> list[str]:
    """The command line that runs ``argv``, and kills it when this process ends, however that ends (prctl(2),
    PR_SET_PDEATHSIG). Raises HpcstateError when the program is missing.
    """
    words = [str(word) for word in argv]
    if which(words[0]) is None:
        raise HpcstateError(
            f"the program {words[0]!r} is not installed", hint="./hpc installs what is missing"
        )
    return ["setpriv", "--pdeathsig", "KILL", "--", *words]


def run_with_lines(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    clear_up_s: float = 0,
) -> Result:
    """Run ``argv`` to its end; ``on_line`` is told each line as it comes. ``stdout`` of the result has both
    outputs in their order. The command is killed when this process ends, however that ends, when ``on_line``
    raises, and ``clear_up_s`` seconds after an interrupt, which a terminal sends to both.

    Raises HpcstateError when the program is missing.
    """
    words = _bound(argv)
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=dict(env) if env is not None else None,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                on_line(line.rstrip("\n"))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and clear_up_s:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(clear_up_s)
            process.kill()
            raise
    return Result(tuple(map(str, argv)), process.returncode, "".join(lines), "")


def tail(text: str, lines: int = 20) -> str:
    """The last ``lines`` lines of ``text``, indented for a message."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-lines:])


def which(program: str) -> Path | None:
    """The path of ``program`` on PATH, or None."""
    found = shutil.which(program)
    return Path(found) if found else None


def local(command: str, *, timeout: float = 60) -> str:
    """What the shell ``command`` prints on this host.

    ``timeout`` is in seconds. Raises HpcstateError when the command fails or runs past it.
    """
    return run(["sh", "-c", command], timeout=timeout).stdout


AT_ONCE = 16
"""How many nodes are worked on at the same time: each has a connection, and a process here."""


def at_once(work: Callable[[T], R], items: Iterable[T]) -> dict[T, R]:
    """What ``work`` comes to for each of ``items``, in their order, made in threads at the same time.

    Raises what ``work`` raises for the first item in that order, when all have ended.
    """
    known = list(items)
    with ThreadPoolExecutor(max_workers=max(1, min(AT_ONCE, len(known)))) as pool:
        pending = [pool.submit(work, item) for item in known]
    return {item: future.result() for item, future in zip(known, pending, strict=True)}


@contextmanager
def into(argv: Sequence[str | Path], target: IO[bytes], *, hint: str = "") -> Iterator[IO[bytes]]:
    """What the block writes to the yielded stream goes through ``argv`` into the open file ``target``.

    The command ends with the block. Raises HpcstateError when it is missing, and when it fails, with its last
    lines; what the block raised otherwise.
    """
    with _piped(argv, subprocess.PIPE, target, hint) as process:
        assert process.stdin is not None
        yield process.stdin


@contextmanager
def out_of(
    argv: Sequence[str | Path], source: IO[bytes] | bytes, *, hint: str = "", shown: str = ""
) -> Iterator[IO[bytes]]:
    """What ``argv`` makes of ``source`` comes out of the yielded stream, which a block may leave early only
    by an exception.

    ``shown`` is what the log says in the place of ``argv``. Raises as :func:`into` does.
    """
    with tempfile.TemporaryFile() as given:
        if isinstance(source, bytes):
            given.write(source)
            given.seek(0)
        begun = given if isinstance(source, bytes) else source
        with _piped(argv, begun, subprocess.PIPE, hint, shown) as process:
            assert process.stdout is not None
            yield process.stdout


@contextmanager
def _piped(
    argv: Sequence[str | Path], stdin: IO[bytes] | int, stdout: IO[bytes] | int, hint: str, shown: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    begun = time.monotonic()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(_bound(argv), stdin=stdin, stdout=stdout, stderr=said) as process,
    ):
        broken: BrokenPipeError | None = None
        try:
            yield process
            if process.stdin is not None:
                process.stdin.close()
        except BrokenPipeError as error:
            broken = error  # the command has ended, and says why
            _give_up(process)
        except BaseException:
            process.kill()
            _give_up(process)
            raise
        code = process.wait()
        _LOG.debug(
            "%.1f s, exit %d: %s", time.monotonic() - begun, code, shown or _short(list(map(str, argv)))
        )
        if code or broken:
            said.seek(0)
            last = tail(said.read().decode(errors="replace"))
            raise HpcstateError(f"{argv[0]} exited with {code}:\n{last}".rstrip(), hint=hint)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """What was not written yet is dropped: Popen would try it again as it is left."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
