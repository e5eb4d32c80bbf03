"""libvirt's objects by name or UUID: None where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
