"""`hpcstate container`, as a person calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hpcstate import paths


def hpcstate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What ``hpcstate container WORDS`` left: exit code and output."""
    line = [sys.executable, "-m", "hpcstate", "container", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=paths.ROOT)
