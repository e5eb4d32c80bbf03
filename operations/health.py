"""What watches the health of a node, and its removal."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.text_files import TextFiles
from hpcstate import programs
from hpcstate.health.decide import PREFIX
from hpcstate.health.files import CONFIG, FOLDER, LOGROTATE, OWN
from hpcstate.node.managed import Managed
from hpcstate.node.scratch import EVENTS
from hpcstate.slurm.conf import EPILOG, PROLOG
from operations.util import difference
from operations.util.arguments import operation

MANAGED = (
    Managed(
        "health",
        "what watches the nodes (`health`): HealthCheckProgram, prolog, epilog, active checks, the user's "
        "own; they go where the cluster file has health off, with their records",
        f"{FOLDER}, {CONFIG}, {OWN}, {PROLOG}, {EPILOG}, {LOGROTATE}",
        "content by digest, mode, owner",
        "mended",
        needs="`health` in its cluster file: it is off until a lab has run it",
    ),
)


def tidy(own: Sequence[str], modules: Sequence[str]) -> str:
    """The command that removes checks of the user's and modules of ours that are no more; it follows a change
    of CONFIG, which tells of both."""
    kept = " ".join(f"! -name {shlex.quote(name)}" for name in own)
    parts = [f"find {OWN} -mindepth 1 {kept} -delete 2>/dev/null"]
    known = " ".join(f"! -path {shlex.quote(f'{FOLDER}/{name}')}" for name in modules)
    parts.append(f"find {FOLDER} -type f {known} -delete")
    return f"{'; '.join(parts)}; :"


@operation()
def off(node: str, more: Sequence[str] = ()) -> Generator[PyinfraCommand, None, None]:
    """Nothing watches this host any more, and nothing is left of it: files, those of ``more`` too, records,
    the node's Comment. A drain of health's ends with it, for nobody would look again."""
    if not host.get_fact(TextFiles, paths=(CONFIG,)):
        host.noop("nothing watches the health of this node")
        return
    difference.show_removed((CONFIG,))
    yield StringCommand(
        programs.command(
            Path(__file__).with_name("health_off.sh"),
            arguments=(PROLOG, EPILOG, *more, LOGROTATE, CONFIG),
            node=node,
            prefix=PREFIX,
            folders=f"{FOLDER} {OWN} {EVENTS} /var/lib/hpcstate/health",
            records="/var/log/slurm/job_events.jsonl /var/log/slurm/health.jsonl",
        )
    )
