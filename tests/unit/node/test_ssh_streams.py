"""Bytes from a node and to one, by a shell that stands in for ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.node.ssh import Live
from tests.unit.fake_live import TWO

SUDO = '#!/bin/sh\nshift\nexec "$@"\n'
BYTES = bytes(range(256)) * 4000


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Live:
    """A connection whose commands run here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sudo").write_text(SUDO)
    (tmp_path / "bin" / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    found = Live(TWO)
    monkeypatch.setattr(found, "connect", lambda name: None)
    monkeypatch.setattr(found, "_ssh", lambda name: ["sh", "-c", 'eval "$2"', "ssh"])
    return found


def test_bytes_come_as_they_are(live: Live, tmp_path: Path) -> None:
    (tmp_path / "it's here").write_bytes(BYTES)
    with live.receive("controller", f'cat "{tmp_path}/it\'s here"', timeout=60) as stream:
        assert stream.read() == BYTES


def test_a_failure_at_the_end_is_one(live: Live) -> None:
    with (
        pytest.raises(HpcstateError, match="disk is on fire") as caught,
        live.receive("controller", "echo half; echo the disk is on fire >&2; exit 3", timeout=60) as stream,
    ):
        assert stream.read() == b"half\n"
    assert caught.value.where == "controller"


def test_an_error_of_the_block_is_told_as_it_is(live: Live) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        live.receive("controller", "echo begun; exec sleep 50", timeout=60) as stream,
    ):
        stream.readline()
        raise KeyboardInterrupt


def test_bytes_go_as_they_are(live: Live, tmp_path: Path) -> None:
    target = tmp_path / "it's there"
    pieces = (BYTES[:70_000], BYTES[70_000:])
    script = f'umask 077\ncat >"{target}"\npwd\nwc -c <"{target}"'
    said = live.send("controller", script, iter(pieces), timeout=60)
    assert target.read_bytes() == BYTES
    assert said.split() == ["/", str(len(BYTES))]


def test_who_takes_nothing_says_why(live: Live) -> None:
    with pytest.raises(HpcstateError, match="no room") as caught:
        live.send("controller", "echo no room >&2; exit 1", (BYTES for _ in range(50)), timeout=60)
    assert caught.value.where == "controller"


def test_what_cannot_be_had_is_told_as_it_is(live: Live) -> None:
    def broken() -> Iterator[bytes]:
        yield BYTES
        raise HpcstateError("the archive is damaged", where="a.tar")

    with pytest.raises(HpcstateError, match="the archive is damaged") as caught:
        live.send("controller", "cat >/dev/null", broken(), timeout=60)
    assert caught.value.where == "a.tar"
