"""Quotas of users: set, changed, removed, left alone; the feature that the file system may lack."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate import programs
from hpcstate.node.data_volume import TOP, unit, units
from hpcstate.node.quotas import boot_files
from hpcstate.probe import quotas as probe
from operations import quotas
from operations.util import commands
from tests.operations.harness import Outcome, run

DIGEST = hashlib.sha256("".join(text for text, _ in boot_files().values()).encode()).hexdigest()
GIB = 1 << 20


def there(**changes: Any) -> dict[str, Any]:
    """A controller where 2001 may have 2 GiB and 2002 has a limit that is not ours."""
    return {
        **probe.parse(""),
        "programs": True,
        "feature": "yes",
        "on": True,
        "boot": DIGEST,
        "enabled": True,
        "limits": {2001: 2 * GIB, 2002: 7},
        "record": [2001],
        **changes,
    }


def ask(found: dict[str, Any], limits: dict[int, int]) -> Outcome:
    commands._named.clear()
    return run(quotas.state, limits, facts={"facts.quotas.Quotas": {"*": found}})


def calls(done: Outcome) -> list[str]:
    """What quotas.sh is called with, and other commands by their last line."""
    texts = [str(command["command"] if isinstance(command, dict) else command) for command in done.commands]
    return [
        next((line for line in text.splitlines() if line.startswith("set -- ")), text.splitlines()[-1])
        for text in texts
    ]


def test_limits_that_are_right_are_left_alone() -> None:
    done = ask(there(), {2001: 2})
    assert (done.commands, len(done.noops)) == ([], 1)
    assert len(ask(probe.parse(""), {}).noops) == 1  # type: ignore[arg-type]


def test_a_limit_is_set_changed_and_removed() -> None:
    assert calls(ask(there(), {2001: 2, 2003: 1})) == [f"set -- set 2003={GIB}"]
    assert calls(ask(there(), {2001: 3})) == [f"set -- set 2001={3 * GIB}"]
    assert calls(ask(there(), {2003: 1})) == [f"set -- set 2001=0 2003={GIB}"]
    assert calls(ask(there(), {2002: 1, 2001: 2})) == [f"set -- set 2002={GIB}"]


def test_without_any_limit_the_service_goes_too_and_those_of_others_stay() -> None:
    first, second, last = calls(ask(there(), {}))
    assert first.startswith("systemctl disable --quiet hpcstate-quota.service; rm -f ")
    assert (second, last) == ("systemctl daemon-reload", "set -- set 2001=0")


def test_limits_that_do_not_hold_are_turned_on() -> None:
    (command,) = ask(there(on=False), {2001: 2}).commands
    assert "on=yes" in str(command)


def test_a_controller_that_has_nothing_of_it() -> None:
    found = calls(ask(there(programs=False, on=False, boot="", limits={}, record=[]), {2001: 2}))
    assert found[-2:] == ["set -- install", f"set -- set 2001={2 * GIB}"]
    assert found[-3].endswith("systemctl enable --quiet hpcstate-quota.service")


def test_a_file_system_without_the_feature_is_named_and_stops_nothing() -> None:
    done = ask(there(feature="no", on=False, limits={}), {2001: 2})
    assert (done.commands, len(done.noops)) == ([], 1)


# the programs


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Programs that write down their calls, and do what the variable FAIL does not name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("setquota", "quotaon", "tune2fs", "e2fsck", "modprobe"):
        (folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >>"$LOG"\ncase $FAIL in *{name}*) exit 4 ;; esac\n'
        )
        (folder / name).chmod(0o755)
    (folder / "dumpe2fs").write_text('#!/bin/sh\necho "Filesystem features: $FEATURES"\n')
    (folder / "dumpe2fs").chmod(0o755)
    return folder


def did(tools: Path, text: str, **environment: str) -> tuple[int, list[str]]:
    log = tools.parent / "log"
    log.write_text("")
    done = subprocess.run(
        ["sh", "-c", text],
        env={"PATH": f"{tools}:{os.defpath}", "LOG": str(log), "FAIL": "", **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode, log.read_text().splitlines()


def test_what_is_ours_is_noted_before_and_until(tools: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"

    def text(*words: str, on: str = "") -> str:
        return programs.command(
            programs.REPLACE, quotas.PROGRAM, arguments=("set", *words), top="/top", record=record, on=on
        )

    code, log = did(tools, text("2001=5", "2002=6", on="yes"))
    assert code == 0 and record.read_text() == "2001\n2002\n"
    assert log == ["setquota -u 2001 0 5 0 0 /top", "setquota -u 2002 0 6 0 0 /top", "quotaon -u /top"]
    code, log = did(tools, text("2001=0"))
    assert (code, log, record.read_text()) == (0, ["setquota -u 2001 0 0 0 0 /top"], "2002\n")
    assert did(tools, text("2002=0"), FAIL="setquota")[0] != 0 and record.read_text() == "2002\n"
    assert did(tools, text("2003=1"), FAIL="setquota")[0] != 0 and record.read_text() == "2002\n2003\n"
    assert did(tools, text("2003=1", on="yes"), FAIL="quotaon")[0] != 0


@pytest.mark.parametrize(
    ("features", "fail", "last"),
    [
        ("has_journal", "", "tune2fs -O quota /dev/x"),
        ("has_journal quota", "", None),
        ("", "", None),
        ("has_journal", "modprobe", "modprobe -q quota_v2"),
        ("has_journal", "e2fsck", "e2fsck -p /dev/x"),
        ("has_journal", "tune2fs", "tune2fs -O quota /dev/x"),
    ],
)
def test_the_feature_is_added_where_nothing_speaks_against_it(
    tools: Path, features: str, fail: str, last: str | None
) -> None:
    (text, _), _ = boot_files().values()
    text = text.replace("device=/dev/disk/by-id/virtio-hpcstate-data", "device=/dev/x")
    code, log = did(tools, text, FEATURES=features, FAIL=fail)
    assert code == 0 and (log[-1] if log else None) == last


def test_the_volume_is_mounted_with_its_limits_only_where_there_are_any() -> None:
    without, with_them = (units((), quotas=some)[unit(TOP)] for some in (False, True))
    assert "Options=nodev,nosuid\nTimeoutSec" in without
    assert "Options=nodev,nosuid,usrquota\nTimeoutSec" in with_them
