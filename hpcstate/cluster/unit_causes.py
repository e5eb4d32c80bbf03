"""Why a unit did not start: systemctl says that it failed, the node's journal says why."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hpcstate.errors import HpcstateError
from hpcstate.model import Description
from hpcstate.node.ssh import Live

_FAILED = re.compile(r"\[(?P<node>[\w-]+)\].*\bJob for (?P<unit>[\w@.\\-]+\.\w+) failed")
"""systemctl's words (systemd 257, shared/bus-wait-for-jobs.c), behind pyinfra's host."""

_LINES = 2
_SECONDS = 20.0

Ask = Callable[[str, str], str]
"""Runs a shell script on the node of a name; HpcstateError where it does not answer."""


def with_causes(messages: Sequence[str], ask: Ask) -> tuple[str, ...]:
    """``messages`` of a deploy, each failed job of systemd with what the journal of its node says of it."""
    known: dict[tuple[str, str], str] = {}
    found = []
    for message in messages:
        if job := _FAILED.search(message):
            of = (job["node"], job["unit"])
            if of not in known:
                known[of] = _said(*of, ask)
            message = f"[{job['node']}] {job['unit']} did not start: {known[of]}" if known[of] else message
        found.append(message)
    return tuple(dict.fromkeys(found))


def of_nodes(messages: Sequence[str], description: Description) -> tuple[str, ...]:
    """``messages`` with what the nodes of ``description`` say."""
    if not any(map(_FAILED.search, messages)):
        return tuple(messages)
    clusters = {node.name: cluster for cluster in description.clusters for node in cluster.nodes}

    def ask(node: str, script: str) -> str:
        if node not in clusters:
            return ""
        with Live(clusters[node]) as live:
            return live.run(node, script, user="root", timeout=_SECONDS).stdout

    return with_causes(messages, ask)


def _said(node: str, unit: str, ask: Ask) -> str:
    """The last warnings of the journal about ``unit``, but those that say only that it failed."""
    words = f"journalctl --unit={unit} --priority=warning --lines=20 --output=cat --no-pager"
    try:
        lines = [line.strip() for line in ask(node, words).splitlines() if line.strip()]
    except HpcstateError:
        return ""
    own = [line for line in lines if not line.startswith(("Failed to start", f"{unit}: Failed with result"))]
    return "; ".join(list(dict.fromkeys(own))[-_LINES:])
