"""People of a directory: turned on, changed, turned off, left alone; and the program that does it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hpcstate.node.directory import CA, CONF, HOMES_SERVICE, HOMES_UNIT, RECORD
from hpcstate.probe import directory as probe
from hpcstate.probe.text_files import TextFileState
from operations import directory
from tests.operations.harness import Outcome, run

FILES = {CONF: ("[sssd]\n", "600"), HOMES_SERVICE: ("[Service]\n", "644")}
ON = {"enabled": "enabled", "active": "active"}


def there(**changes: Any) -> dict[str, Any]:
    """A node where all is as ``FILES`` say."""
    units = {"sssd.service": ON, HOMES_UNIT: ON, "sssd-nss.socket": {**ON, "enabled": "disabled"}}
    return {**probe.parse(""), "installed": True, "record": True, "conf": True, "units": units, **changes}


def states(**changes: Any) -> dict[str, TextFileState]:
    return {
        path: TextFileState(
            mode=mode, owner="root:root", sha256=hashlib.sha256(text.encode()).hexdigest(), pending=False
        )
        | changes.get(path, {})
        for path, (text, mode) in FILES.items()
    }


def ask(
    found: Mapping[str, Any],
    files: Mapping[str, tuple[str, str]] = FILES,
    texts: Mapping[str, Any] | None = None,
    *,
    early: bool = False,
) -> Outcome:
    facts = {
        "facts.directory.Directory": {"*": found},
        "facts.text_files.TextFiles": {"*": states() if texts is None else texts},
    }
    return run(directory.state, files, early=early, facts=facts)


def calls(done: Outcome) -> list[str]:
    """What is written, by path, and what directory.sh is called with."""
    texts = [str(command["command"] if isinstance(command, dict) else command) for command in done.commands]
    return [
        next(
            (line for line in text.splitlines() if line.startswith(("set -- ", "replace_file /", "rm -f "))),
            text,
        )
        for text in texts
    ]


def test_what_is_right_is_left_alone() -> None:
    for early in (False, True):
        done = ask(there(), early=early)
        assert (done.commands, len(done.noops)) == ([], 1)


def test_without_a_directory_a_node_that_never_had_one_is_left_alone() -> None:
    for found in (probe.parse(""), there(record=False)):
        done = ask(found, {})
        assert (done.commands, len(done.noops)) == ([], 1)


def test_it_comes_after_the_packages() -> None:
    new = probe.parse("")
    assert ask(new, texts={}, early=True).commands == []
    written = calls(ask(new, texts={}))
    assert [line.split()[1] for line in written[:-1]] == [RECORD, CONF, HOMES_SERVICE]
    assert written[0].endswith("644") and " 600 " in written[1], written
    assert written[-1] == "set -- on"


def test_the_secret_is_in_no_command() -> None:
    done = ask(probe.parse(""), {CONF: ("ldap_default_authtok = geheim\n", "600")}, {})
    (write,) = [each for each in done.commands if isinstance(each, dict) and CONF in str(each["command"])]
    assert "geheim" not in str(write["command"])
    assert not [each for each in done.commands if not isinstance(each, dict) and "geheim" in each]


def test_a_change_restarts_and_an_interrupted_one_goes_on() -> None:
    for texts in (states(**{CONF: {"mode": "640"}}), states(**{CONF: {"pending": True}})):
        found = ask(there(), texts=texts, early=True)
        assert [line.split()[1] for line in calls(found)[:-1]] == [RECORD, CONF]
        assert "restart=yes" in str(found.commands[-1])


def test_what_is_off_is_turned_on_without_a_restart() -> None:
    for units in (
        {"sssd.service": {**ON, "active": "inactive"}, HOMES_UNIT: ON},
        {"sssd.service": ON},
        {"sssd.service": ON, HOMES_UNIT: ON, "sssd-pam.socket": ON},
    ):
        done = ask(there(units=units))
        assert calls(done)[-1] == "set -- on" and "restart=''" in str(done.commands[-1])


def test_what_the_file_has_no_more_goes() -> None:
    texts = {**states(), CA: states()[CONF]}
    assert f"rm -f {CA}" in calls(ask(there(), texts=texts))


def test_without_the_key_it_is_off_first_and_forgotten_behind_the_packages() -> None:
    assert calls(ask(there(), {}, early=True)) == ["set -- off"]
    assert ask(there(conf=False), {}, early=True).commands == []
    assert calls(ask(there(conf=False), {})) == ["set -- forget"]


def test_somebody_elses_sssd_is_left_alone() -> None:
    done = ask(there(record=False))
    done.execute_functions()
    assert len(done.commands) == 1 and "was written by somebody else" in done.host.said[0]
