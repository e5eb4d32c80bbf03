"""What doit is told of the build graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.tasks import graph


def test_another_users_state_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """doit would say it with the traceback of its sqlite."""
    state = tmp_path / "doit.sqlite3"
    graph._demand_writable(state)
    state.touch()
    monkeypatch.setattr("os.access", lambda path, mode: path != state)
    with pytest.raises(SystemExit) as caught:
        graph._demand_writable(state)
    assert caught.value.code == 2
    assert f"{state} belongs to another user" in capsys.readouterr().err
