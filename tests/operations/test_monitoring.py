"""What watches a host: its user of the database; and that nothing is left of it."""

from __future__ import annotations

from hpcstate.monitoring import places
from operations import monitoring
from tests.operations.harness import Outcome, run

GRANTS = list(monitoring.GRANTS)


def user(found: list[str]) -> Outcome:
    return run(monitoring.database_user, facts={"facts.monitoring.DatabaseGrants": {"*": found}})


def off(found: dict[str, object]) -> Outcome:
    return run(
        monitoring.off,
        [places.PROMETHEUS, "/etc/systemd/system/prometheus.service.d/hpcstate.conf"],
        [places.DATA],
        ["prometheus.service"],
        facts={"facts.text_files.TextFiles": {"*": found}},
    )


def test_the_user_of_the_database_is_made_without_a_password() -> None:
    (command,) = user([]).commands
    assert "IDENTIFIED VIA unix_socket" in str(command)
    assert "BY PASSWORD" not in str(command)


def test_a_user_with_other_rights_is_made_anew() -> None:
    (command,) = user([*GRANTS, "GRANT SELECT ON `x`.* TO `prometheus`@`localhost`"]).commands
    assert str(command).index("DROP USER") < str(command).index("GRANT PROCESS")


def test_a_right_user_is_left_alone() -> None:
    done = user(GRANTS)
    assert (done.commands, len(done.noops)) == ([], 1)


def test_where_nothing_watches_nothing_is_done() -> None:
    done = off({})
    assert (done.commands, len(done.noops)) == ([], 1)


def test_what_is_left_of_another_file_goes_and_the_units_first() -> None:
    state = {"sha256": "0", "mode": "644", "owner": "root:root", "pending": False}
    commands = [str(command) for command in off({places.PROMETHEUS: state}).commands]
    assert "systemctl disable" in commands[0] and "prometheus.service" in commands[0]
    assert "DROP USER IF EXISTS `prometheus`@`localhost`" in commands[1]
    assert commands[2] == f"rm -rf {places.DATA}"
    assert places.PROMETHEUS in commands[3] and commands[3].endswith("systemctl daemon-reload")
