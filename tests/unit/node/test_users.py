"""Which nodes make homes, and what stands in the files of keys and of sudo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpcstate import paths, schema
from hpcstate.model import User
from hpcstate.node.users import keys_text, sudoers_text, wanted_users

CLUSTER = schema.load(Path(paths.ROOT / "inventories/gpu.yaml")).clusters[0]
ALICE = User("alice", 2001, ssh_keys=("ssh-ed25519 AAAA a",), admin=True)


def test_homes_are_made_where_they_lie() -> None:
    shared, own = (replace(CLUSTER, users=(ALICE,), home=home) for home in ("nfs", "local"))
    assert [wanted_users(shared, node).homes for node in shared.nodes] == [True, False, False]
    assert [wanted_users(own, node).homes for node in own.nodes] == [True, True, True]
    assert all(wanted_users(shared, node).users == (ALICE,) for node in shared.nodes)


def test_files_begin_with_whose_they_are() -> None:
    for text in (keys_text(ALICE.ssh_keys), sudoers_text([ALICE])):
        assert text.startswith("# Managed by hpcstate") and text.endswith("\n")
    assert (keys_text([]), sudoers_text([])) == ("", "")
