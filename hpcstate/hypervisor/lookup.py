"""libvirt's objects by name or UUID (None where there is none), and the subnets of a network."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import TypeVar
from xml.etree import ElementTree

import libvirt

T = TypeVar("T")

_NOT_FOUND = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
}


def found(lookup: Callable[[str], T], name: str) -> T | None:
    """What ``lookup`` finds by ``name`` (or UUID), None when it does not exist."""
    try:
        return lookup(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NOT_FOUND:
            return None
        raise


def subnets_of(xml: str) -> tuple[IPv4Network, ...]:
    """The IPv4 subnets that a network of libvirt's has addresses in (formatnetwork.html, Addressing)."""
    return tuple(
        IPv4Network(
            f"{address}/{ip.get('prefix') or ip.get('netmask') or _of_its_class(address)}", strict=False
        )
        for ip in ElementTree.fromstring(xml).iterfind("ip")
        if (address := ip.get("address")) and ip.get("family", "ipv4") == "ipv4"
    )


def _of_its_class(address: str) -> int:
    """The prefix that libvirt takes where none is written (virSocketAddrGetIPPrefix): by the first octet."""
    octet = int(address.partition(".")[0])
    return 8 if octet < 128 else 16 if octet < 192 else 24
