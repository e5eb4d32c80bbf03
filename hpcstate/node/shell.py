"""A shell on a node that stays open for many scripts: a channel and sudo are paid once."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

_READ = 1 << 16


class Shell:
    """The shell that ``argv`` starts (``ssh ... sh``), which reads commands from its standard input. For one
    thread at a time."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._mark = f"hpcstate-{secrets.token_hex(8)}"
        pipe = subprocess.PIPE
        # What clears up after Ctrl-C may need it: a terminal's signals do not reach it. It ends with its
        # pipe, and so with this process.
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)

    @property
    def ended(self) -> bool:
        """Whether it can run nothing any more: its connection is gone."""
        return self._process.poll() is not None

    def run(self, command: str, given: str, timeout: float) -> tuple[int, str, str]:
        """Run the shell ``command`` with the lines ``given`` on its standard input: its exit code, output
        and error output. Where the shell ends before it does, the exit code is the shell's; ``ended`` tells.

        Raises TimeoutError after ``timeout`` seconds. After that, or any other exception, it is of no use.
        """
        out, err = self._process.stdout, self._process.stderr
        assert self._process.stdin is not None and out is not None and err is not None
        mark = self._mark
        text = (
            f"{command} <<'{mark}'\n{given}{mark}\nprintf '{mark} %s\\n' \"$?\"; printf '{mark} 0\\n' >&2\n"
        )
        deadline = time.monotonic() + timeout
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before it ended tells why
        end = re.compile(rb"%s (\d+)\n\Z" % mark.encode())
        said = {out.fileno(): b"", err.fileno(): b""}
        with selectors.DefaultSelector() as selector:
            for number in said:
                selector.register(number, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(deadline - time.monotonic())
                if not ready and time.monotonic() >= deadline:
                    raise TimeoutError
                for key, _ in ready:
                    more = os.read(key.fd, _READ)
                    said[key.fd] += more
                    if not more or end.search(said[key.fd], max(0, len(said[key.fd]) - len(mark) - 9)):
                        selector.unregister(key.fd)
        found = end.search(said[out.fileno()])
        code = int(found[1]) if found else self._process.wait()
        printed, complained = (end.sub(b"", each).decode(errors="replace") for each in said.values())
        return code, printed, complained

    def close(self) -> None:
        """End it, and what it runs with the connection."""
        self._process.kill()
        # What it was too late to write is written when its pipe is closed.
        with suppress(BrokenPipeError), self._process:
            pass
