"""libvirt's objects by name or UUID: None where there is none, an error where it is not ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import libvirt

from hpcstate.errors import HpcstateError

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


def refuse_namesake(lookup: Callable[[str], object], name: str, kind: str, uri: str) -> None:
    """Raises HpcstateError when there is a ``kind`` called ``name``: by its UUID it is not ours."""
    if found(lookup, name) is not None:
        raise HpcstateError(
            f"a {kind} called {name!r} exists already, and hpcstate did not make it",
            where=uri,
            hint="give the cluster another name in its file, or remove that one yourself",
        )
