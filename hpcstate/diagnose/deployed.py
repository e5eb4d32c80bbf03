"""What a node gets of it: the program of the seeds' path, and beside it the same rules as files. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstate import paths

PROGRAM = "/opt/slurm/bin/diagnose_training_failure.py"
LIBRARY = "/opt/slurm/lib"

MODES: Mapping[str, str] = {PROGRAM: "755"}
"""Modes of those files that are not 644."""

PARTS = (
    "__init__.py",
    *(
        f"diagnose/{name}"
        for name in (
            *("__init__.py", "collect.py", "decide.py", "events.py", "evidence.py", "lines.py"),
            *(
                "output_paths.py",
                "python.py",
                "ranks.py",
                "record.py",
                "rules.py",
                "rules.toml",
                "sources.py",
                "text.py",
            ),
        )
    ),
    *("gpu/__init__.py", "gpu/xids.py", "gpu/xids.toml"),
)
"""Below hpcstate/: what the program imports and reads, and nothing that needs more than Debian's Python."""


def files() -> Mapping[str, str]:
    """Path to content on every node of a Slurm cluster."""
    root = paths.ROOT / "hpcstate"
    program = (root / "diagnose" / "diagnose_training_failure.py").read_text(encoding="utf-8")
    library = {f"{LIBRARY}/hpcstate/{part}": (root / part).read_text(encoding="utf-8") for part in PARTS}
    return {PROGRAM: program, **library}
