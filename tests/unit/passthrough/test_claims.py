"""A device is claimed by address and identifiers, and compared at each start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.model import Node, PassthroughDevice
from hpcstate.passthrough.claims import claimed, read_claims, write_claims
from tests.unit.fake_live import a_node
from tests.unit.pci_hosts import AUDIO, GPU, SECOND, device

FOUND = {pci["address"]: pci for pci in (GPU, AUDIO, SECOND)}
DISK = device("0000:01:00.0", "144d:a80a", "010802", "nvme")
BARE = PassthroughDevice("0000:01:00.0", "gpu")
NAMED = PassthroughDevice("0000:01:00.0", "gpu", vendor_id="10de", device_id="2805")


def node(*devices: PassthroughDevice) -> list[Node]:
    return [replace(a_node("compute-01", 11, gpus=0), passthrough=devices)]


def test_the_first_start_decides_where_the_file_says_nothing(tmp_path: Path) -> None:
    first = claimed(node(BARE), FOUND, {})
    assert first == {"0000:01:00.0": "10de:2805"}
    path = tmp_path / "gpu" / "claims.json"
    write_claims(path, first)
    assert read_claims(path) == first
    assert claimed(node(BARE), FOUND, read_claims(path)) == first


@pytest.mark.parametrize("declared", [BARE, NAMED], ids=["not declared", "declared"])
def test_another_device_at_the_address_stops_the_start(declared: PassthroughDevice) -> None:
    """A card was added: the disk of the host is where the GPU was, which moved on."""
    there = (DISK, device("0000:02:00.0", "10de:2805", "030000", "nvidia"))
    moved = {pci["address"]: pci for pci in there}
    with pytest.raises(HpcstateError) as caught:
        claimed(node(declared), moved, {"0000:01:00.0": "10de:2805"})
    assert (
        "0000:01:00.0 is 144d:a80a now, and not 10de:2805; 10de:2805 is at 0000:02:00.0"
        in caught.value.message
    )


def test_a_device_that_is_gone_stops_the_start() -> None:
    with pytest.raises(HpcstateError, match="compute-01: there is no PCI device 0000:01:00"):
        claimed(node(BARE), {}, {})


def test_what_the_file_says_counts_for_more_than_an_old_claim() -> None:
    assert claimed(node(NAMED), FOUND, {"0000:01:00.0": "10de:1111"}) == {"0000:01:00.0": "10de:2805"}


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_damaged_claims_are_a_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "claims.json"
    path.write_text(text)
    with pytest.raises(HpcstateError, match="these are no claims"):
        read_claims(path)
    assert read_claims(tmp_path / "none.json") == {}
