"""doit's own settings, and what makes an interrupted run resumable."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

from hpcstate import paths


def settings() -> dict[str, Any]:
    """DOIT_CONFIG. SIGTERM becomes KeyboardInterrupt: doit saves its state at the end of a run only."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.excepthook = _report
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    return {
        "backend": "sqlite3",
        "dep_file": str(paths.BUILD / "doit.sqlite3"),
        "default_tasks": ["build_images"],
        "par_type": "thread",
        "reporter": "console",
        "action_string_formatting": "new",
    }


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """One line instead of doit's stack for an interrupted run. Python exits with 130 either way."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; the next run goes on from here", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, traceback)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
