"""The seed of a node: what it is known by."""

from __future__ import annotations

from hpcstate.node.cidata import instance_id

HOST = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHost0000000000000000000000000000000000000000"
USER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIUser1111111111111111111111111111111111111111"
OTHER = USER.replace("1", "2")


def test_another_name_or_key_is_another_seed() -> None:
    """The first boot applies a seed once: one with a new key and an old name would never reach the node."""
    ids = {
        instance_id("compute-01", HOST, USER),
        instance_id("compute-02", HOST, USER),
        instance_id("compute-01", OTHER, USER),
        instance_id("compute-01", HOST, OTHER),
    }
    assert len(ids) == 4
    assert instance_id("compute-01", HOST, USER) == instance_id("compute-01", f"{HOST} a comment", USER)
