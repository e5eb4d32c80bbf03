"""The only door to subprocesses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError


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
) -> Result:
    """Run ``argv`` to its end and return its output; standard input is ``stdin`` or empty.

    ``timeout`` is in seconds. Secrets are passed by ``stdin`` or a file, never in ``argv``.

    Raises HpcstateError when the program is missing, when it ran past ``timeout``, or, with ``check``,
    when it exits with another code than 0; the message ends with its last lines.
    """
    words = tuple(str(word) for word in argv)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            words,
            input=data if data is not None else b"",
            capture_output=True,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise HpcstateError(
            f"the program {words[0]!r} is not installed", hint="./hpc installs what is missing"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HpcstateError(f"{words[0]} did not end within {timeout:.0f} s", hint=hint) from error
    result = Result(
        words, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.code != 0:
        raise HpcstateError(
            f"{words[0]} exited with {result.code}:\n{tail(result.stderr or result.stdout)}", hint=hint
        )
    return result


def run_visibly(argv: Sequence[str | Path], *, cwd: Path | None = None) -> int:
    """Run ``argv`` with its output going straight to the terminal, and return its exit code.

    Raises HpcstateError when the program is missing.
    """
    words = [str(word) for word in argv]
    sys.stdout.flush()
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, cwd=cwd, check=False).returncode
    except FileNotFoundError as error:
        raise HpcstateError(
            f"the program {words[0]!r} is not installed", hint="./hpc installs what is missing"
        ) from error


def run_with_lines(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run ``argv`` to its end; ``on_line`` is told each line as it comes. ``stdout`` of the result has both
    outputs in their order. The command is killed when this process ends, however that ends (prctl(2),
    PR_SET_PDEATHSIG), when it is interrupted, and when ``on_line`` raises.

    Raises HpcstateError when the program is missing.
    """
    words = [str(word) for word in argv]
    if which(words[0]) is None:
        raise HpcstateError(
            f"the program {words[0]!r} is not installed", hint="./hpc installs what is missing"
        )
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *words],
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
        except BaseException:
            process.kill()
            raise
    return Result(tuple(words), process.returncode, "".join(lines), "")


def tail(text: str, lines: int = 20) -> str:
    """The last ``lines`` lines of ``text``, indented for a message."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-lines:])


def which(program: str) -> Path | None:
    """The path of ``program`` on PATH, or None."""
    found = shutil.which(program)
    return Path(found) if found else None
