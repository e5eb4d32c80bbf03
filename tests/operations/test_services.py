"""systemd units: enabled and running."""

from __future__ import annotations

from operations import services
from tests.operations.harness import run

CHRONY = "chrony.service"


def test_what_is_enabled_and_stopped_is_turned_on() -> None:
    of = f"services=['{CHRONY}']"
    facts = {"systemd.SystemdEnabled": {of: {CHRONY: True}}, "systemd.SystemdStatus": {of: {CHRONY: False}}}
    assert run(services.state, [CHRONY], facts=facts).commands == [
        f"systemctl enable --quiet {CHRONY}",
        f"systemctl start {CHRONY}",
    ]
