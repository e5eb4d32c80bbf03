"""Whether libvirt runs a domain as it was rendered, in what passthrough and its tuning are about. Pure.

libvirt adds to the XML that it is given (aliases, addresses, controllers of its own) and writes some of it in
other words, so that only what was asked for is compared, in a form of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

IN_THE_GUEST = " in the guest"
"""Behind the address of a device of the host: the name of what says where the guest has it."""

_UNIT_KIB = {"KiB": 1, "MiB": 1 << 10, "GiB": 1 << 20}
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def differences(rendered: str, running: str) -> list[str]:
    """Where the XML ``running``, from libvirt, is not the XML ``rendered``: devices of the host and their
    places in the guest, huge pages, pinning. Empty when it is the same.
    """
    wanted, found = dict(aspects(rendered)), dict(aspects(running))
    return [
        f"{name}: {found.get(name) or 'none'} instead of {wanted.get(name) or 'none'}"
        for name in dict.fromkeys((*wanted, *found))
        if wanted.get(name, "") != found.get(name, "")
    ]


def passed_through(domain_xml: str) -> list[str]:
    """The PCI devices of the host (``0000:01:00.0``) in a domain, in its order."""
    root = ElementTree.fromstring(domain_xml)
    return [_address(device.find("source/address")) for device in _hostdevs(root)]


def aspects(domain_xml: str) -> Iterator[tuple[str, str]]:
    """What is compared of a domain, by name: empty for what it has not."""
    root = ElementTree.fromstring(domain_xml)
    places = {
        controller.attrib["index"]: _address(controller.find("address"))
        for controller in root.iterfind("devices/controller[@type='pci']")
    }
    for device in _hostdevs(root):
        name = _address(device.find("source/address"))
        yield f"{name}{IN_THE_GUEST}", _place(device.find("address"), places)
        rom = device.find("rom")
        yield (
            f"{name} ROM",
            "" if rom is None else " ".join(f"{key}={rom.attrib[key]}" for key in sorted(rom.attrib)),
        )
        yield f"{name} x-vga", _x_vga(root, device)
    page = root.find("memoryBacking/hugepages/page")
    yield (
        "huge pages",
        "" if page is None else f"{int(page.attrib['size']) * _UNIT_KIB[page.get('unit', 'KiB')]} KiB",
    )
    for pin in root.iterfind("cputune/vcpupin"):
        yield f"CPU {pin.attrib['vcpu']} pinned to", pin.attrib["cpuset"]
    for number, memory in enumerate(root.iterfind("numatune/*")):
        yield f"memory {memory.get('cellid', number)} on NUMA node", memory.attrib["nodeset"]


def _hostdevs(root: Element) -> list[Element]:
    return root.findall("devices/hostdev[@type='pci']")


def _place(address: Element | None, ports: dict[str, str]) -> str:
    """Where a device is: the address of its root port on bus 0, and its slot and function behind it."""
    if address is None:
        return ""
    bus = str(int(address.get("bus", "0"), 16))
    return f"{_address(address)[8:]} behind {ports.get(bus, 'nothing')[5:]}"


def _x_vga(root: Element, device: Element) -> str:
    alias = device.find("alias")
    name = "" if alias is None else alias.attrib["name"]
    found = root.find(
        f"{_QEMU}override/{_QEMU}device[@alias='{name}']/{_QEMU}frontend/{_QEMU}property[@name='x-vga']"
    )
    return "" if found is None else found.attrib["value"]


def _address(address: Element | None) -> str:
    """``0000:01:00.0`` of an element with domain, bus, slot and function; those left out are 0."""
    parts = ("domain", "bus", "slot", "function")
    numbers = {part: int("0" if address is None else address.get(part, "0"), 16) for part in parts}
    return "{domain:04x}:{bus:02x}:{slot:02x}.{function:x}".format(**numbers)
