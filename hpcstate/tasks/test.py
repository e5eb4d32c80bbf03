"""`doit test`: all the tests, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcstate.stages import STAGES, Run


def task_test() -> Iterator[dict[str, Any]]:
    """Run all the tests; the first stage that fails ends the run. `doit test:unit` runs one stage."""
    run = Run()
    yield {"name": None, "doc": "run all the tests, stage by stage"}
    for stage in STAGES:
        yield {
            "name": stage.name,
            "doc": " ".join(stage.tests) or ", ".join(" ".join(words) for words in stage.commands),
            "actions": [(run.stage, (stage,))],
            "task_dep": list(stage.needs),
            "uptodate": [False],
            "verbosity": 2,
        }
