"""`doit test`: all the tests, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcstate.tasks.graph import action
from hpcstate.tasks.stages import STAGES, Run, all_asked


def task_test() -> Iterator[dict[str, Any]]:
    """Run all the tests; the first stage that fails ends the run. `doit test:unit` runs one stage.

    With `-n 3` (as `./hpc test` does), what the later stages need is built while the first ones run. The lab
    has the machine to itself: its virtual machines must not starve.
    """
    run = Run()
    yield {"name": None, "doc": "run all the tests, stage by stage"}
    for position, stage in enumerate(STAGES):
        alone = stage.alone and all_asked()
        before = [f"test:{earlier.name}" for earlier in STAGES[:position]] if alone else []
        yield {
            "name": stage.name,
            "doc": " ".join(stage.tests) or ", ".join(" ".join(words) for words in stage.commands),
            "actions": [(action(run.stage), (stage,))],
            "task_dep": [*stage.needs, *before],
            "uptodate": [False],
            "verbosity": 2,
        }
