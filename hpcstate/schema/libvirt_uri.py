"""``uri``: the libvirt connections that a cluster file may ask for.

A URI of libvirt can run programs (transport ``ext``; ``command``, ``netcat`` and ``socket`` of the ssh
transports) and switch the check of the other side off (``no_verify``): a cluster file that somebody sent must
not. What is allowed is listed (libvirt.org/uri.html, "Transport configuration"); all else is refused.
"""

from __future__ import annotations

import re

from hpcstate.schema.leaf import LeafError

TRANSPORTS = ("unix", "ssh", "libssh", "libssh2", "tls")
"""``tcp`` sends everything in the clear, ``ext`` runs a program."""

_KEYS = {
    "keyfile": re.compile(r"/[A-Za-z0-9_./@+-]+"),
    "known_hosts": re.compile(r"/[A-Za-z0-9_./@+-]+"),
    "pkipath": re.compile(r"/[A-Za-z0-9_./@+-]+"),
    "mode": re.compile(r"auto|legacy|direct"),
    "no_tty": re.compile(r"1"),
    "sshauth": re.compile(r"[a-z,-]+"),
}
"""The query's keys and what each may be. libvirt compares them without case, and decodes %xx."""

_URI = re.compile(
    r"qemu(?:\+(?P<transport>[a-z0-9]+))?://"
    r"(?:(?:[A-Za-z_][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{1,5}))?)?"
    r"/(?:system|session)(?:\?(?P<query>[^\s#]*))?",
    re.ASCII,
)

EXPECTED = "a libvirt URI like qemu:///system or qemu+ssh://root@host/system"


def libvirt_uri(text: str) -> str:
    """The URI in ``text``. Raises LeafError for one that is none, runs a program or trusts anybody."""
    found = _URI.fullmatch(text) if len(text) <= 1024 else None
    if found is None:
        raise LeafError(EXPECTED, "qemu[+transport]://[user@host[:port]]/system or /session, nothing encoded")
    if found["port"] and not 0 < int(found["port"]) < 1 << 16:
        raise LeafError(EXPECTED, "a port is 1 to 65535")
    transport = found["transport"]
    if transport and transport not in TRANSPORTS:
        raise LeafError(
            f"a transport among {', '.join(TRANSPORTS)}", "ext runs programs, tcp is in the clear"
        )
    # libvirt takes ";" for "&" (virURIParse).
    for item in re.split("[&;]", found["query"] or ""):
        name, _, value = item.partition("=")
        if name in _KEYS and not _KEYS[name].fullmatch(value):
            raise LeafError(
                f"{EXPECTED}; {value[:40]!r} is no value of {name}",
                "files are named with their whole path" if value and "/" in _KEYS[name].pattern else "",
            )
        if item and name not in _KEYS:
            raise LeafError(
                f"{EXPECTED}; {name[:40]!r} may not be in its query",
                f"allowed are {', '.join(_KEYS)}: others run programs or switch off the check of host keys; "
                "~/.ssh/config can say the rest",
            )
    return text
