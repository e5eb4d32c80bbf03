"""hpcstate: a GPU SLURM cluster from one description, and kept in that state."""

import sys as _sys

_PROGRAMS = ("hpcstate", "doit", "pyinfra", "-m", "bootstrap.py", "__main__.py")
"""How the programs of the project are called (``sys.argv[0]``), ``-m`` while a module is looked for."""


def _told(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """An interrupt that comes while a program of ours is still being imported is a line, as later ones are.
    Nothing can catch it: `main` has not begun."""
    if issubclass(kind, KeyboardInterrupt) and _sys.argv and _sys.argv[0].rpartition("/")[2] in _PROGRAMS:
        print("interrupted", file=_sys.stderr, flush=True)
    else:
        _before(kind, error, trace)  # type: ignore[arg-type]


_before = _sys.excepthook
_sys.excepthook = _told
