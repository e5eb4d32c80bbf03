"""Which slot, function and root port a passed-through device gets in the guest."""

from __future__ import annotations

import pytest

from hpcstate.hypervisor.guest_pci import RootPort, root_ports
from hpcstate.model import PassthroughDevice


def ports(*addresses: str) -> tuple[RootPort, ...]:
    return root_ports([PassthroughDevice(f"0000:{address}", "other") for address in addresses])


def placed(*addresses: str) -> list[list[tuple[str, int, bool]]]:
    """For each port the host's address, the guest's function, and whether it says that there are more."""
    return [
        [(guest.device.pci_address[5:], guest.function, guest.multifunction) for guest in port.functions]
        for port in ports(*addresses)
    ]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), []),
        (("01:00.0",), [[("01:00.0", 0, False)]]),
        (("01:00.0", "01:00.1"), [[("01:00.0", 0, True), ("01:00.1", 1, False)]]),
        (("01:00.1", "01:00.0"), [[("01:00.0", 0, True), ("01:00.1", 1, False)]]),
        (("01:00.1",), [[("01:00.1", 0, False)]]),
        (("3b:02.7", "3b:02.2"), [[("3b:02.2", 0, True), ("3b:02.7", 7, False)]]),
        (("41:00.0", "01:00.0"), [[("41:00.0", 0, False)], [("01:00.0", 0, False)]]),
        (
            ("41:00.0", "01:00.0", "41:00.1"),
            [[("41:00.0", 0, True), ("41:00.1", 1, False)], [("01:00.0", 0, False)]],
        ),
        (("01:00.0", "01:01.0"), [[("01:00.0", 0, False)], [("01:01.0", 0, False)]]),
    ],
)
def test_functions_of_a_slot_stay_together(
    addresses: tuple[str, ...], expected: list[list[tuple[str, int, bool]]]
) -> None:
    assert placed(*addresses) == expected


def test_the_same_slot_of_another_domain_of_the_host_is_another_slot() -> None:
    devices = [PassthroughDevice(f"{domain}:01:00.0", "gpu") for domain in ("0000", "0001")]
    assert len(root_ports(devices)) == 2


def test_every_port_has_an_address_of_its_own() -> None:
    found = ports(*(f"{bus:02x}:00.0" for bus in range(20)))
    assert [port.index for port in found] == list(range(1, 21))
    assert [(port.slot, port.function) for port in found[:9]] == [*((0x10, n) for n in range(8)), (0x11, 0)]
    assert len({port.port for port in found}) == 20
    assert [port.index for port in found if port.multifunction] == [1, 9, 17]
    assert max(port.slot for port in found) < 0x1F


def test_a_last_port_alone_in_its_slot_is_not_multifunction() -> None:
    assert [port.multifunction for port in ports(*(f"{bus:02x}:00.0" for bus in range(9)))][-1] is False
