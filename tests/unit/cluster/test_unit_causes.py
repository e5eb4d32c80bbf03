"""What the journal says of a unit that did not start, in the place of systemctl's words."""

from __future__ import annotations

import pytest

from hpcstate.cluster.unit_causes import with_causes
from hpcstate.errors import HpcstateError

JOB = (
    "[compute-01] Job for chrony.service failed because the control process exited with error code.",
    '[compute-01] See "systemctl status chrony.service" and "journalctl -xeu chrony.service" for details.',
)
# journalctl of systemd 257: a node whose /home was a dead automount, under ProtectHome=.
JOURNAL = """\
chrony.service: Failed to set up mount namespacing: /home: Permission denied
chrony.service: Failed at step NAMESPACE spawning /usr/sbin/chronyd: Permission denied
chrony.service: Failed with result 'exit-code'.
Failed to start chrony.service - chrony, an NTP client/server.
"""


def test_the_journal_says_why() -> None:
    asked: list[tuple[str, str]] = []

    def ask(node: str, script: str) -> str:
        asked.append((node, script))
        return JOURNAL

    first, second = with_causes((*JOB, JOB[0]), ask)
    assert first == (
        "[compute-01] chrony.service did not start: chrony.service: Failed to set up mount namespacing: "
        "/home: Permission denied; chrony.service: Failed at step NAMESPACE spawning "
        "/usr/sbin/chronyd: Permission denied"
    )
    assert second == JOB[1]
    ((node, script),) = asked
    assert (node, "--unit=chrony.service" in script) == ("compute-01", True)


@pytest.mark.parametrize("answer", ["", HpcstateError("no SSH")], ids=["an empty journal", "a silent node"])
def test_where_nothing_is_known_the_words_stay(answer: str | HpcstateError) -> None:
    def ask(_node: str, _script: str) -> str:
        if isinstance(answer, HpcstateError):
            raise answer
        return answer

    assert with_causes(JOB, ask) == JOB


def test_other_messages_are_not_looked_into() -> None:
    def ask(node: str, script: str) -> str:
        raise AssertionError((node, script))

    assert with_causes(["[compute-01] slurmd refuses the files"], ask) == (
        "[compute-01] slurmd refuses the files",
    )
