"""``backup`` of a cluster file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.model import BackupSettings


def backup(text: str, more: str = "") -> BackupSettings | None:
    whole = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n    controller: {}\n"
        f"    compute_nodes: [{{}}]\n{text}{more}"
    )
    (cluster,) = schema.parse(whole, Path("lab.yaml")).clusters
    return cluster.backup


def test_without_it_and_with_its_defaults() -> None:
    assert backup("") is None
    assert backup("    backup: {every: daily, path: /mnt/x}\n") == BackupSettings("daily", Path("/mnt/x"))


def test_all_of_it() -> None:
    text = (
        "    backup: {every: weekly, path: /mnt/x, keep: 3, homes: true, containers: true, encrypt_to: /k}\n"
    )
    wanted = BackupSettings("weekly", Path("/mnt/x"), 3, True, True, None, Path("/k"))
    assert backup(text) == wanted


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ("every: daily", "", r"backup\.path: is missing"),
        ("path: /x", "", r"backup\.every: is missing"),
        ("every: never, path: /x", "", r"backup\.every: expected one of hourly"),
        ("every: daily, path: x", "", r"backup\.path: "),
        ("every: daily, path: /x, keep: 0", "", r"backup\.keep: "),
        ("every: daily, path: /x, passphrase_file: /a, encrypt_to: /b", "", r"backup\.encrypt_to: "),
        ("every: daily, path: /x, homes: true", "    storage: {home: local}\n", r"backup\.homes: only homes"),
    ],
)
def test_what_cannot_be(settings: str, more: str, words: str) -> None:
    with pytest.raises(ProblemsError, match=words):
        backup(f"    backup: {{{settings}}}\n", more)
