"""A public SSH key as the file has it: a line of a .pub file."""

from __future__ import annotations

import base64
import binascii

from hpcstate.schema.leaf import LeafError

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""Those that OpenSSH 10 accepts (sshd(8), AUTHORIZED_KEYS FILE FORMAT); it no longer knows ssh-dss."""

_EXPECTED = "a public SSH key: one line that begins with ssh-ed25519, ssh-rsa or ecdsa-sha2-"
_HINT = "take the line of the .pub file as it is, without options before it"


def is_private(text: str) -> bool:
    """Whether ``text`` is a private key, or the inside of one: it must be shown nowhere."""
    return "PRIVATE KEY" in text or "b3BlbnNzaC1rZXktdjE" in text


def ssh_key(text: str) -> str:
    """The key with its comment, separated by single blanks.

    Its second word is a sequence of fields, each behind its length (RFC 4253, section 6.6), and the first of
    them repeats the type: so a key that was cut is told from a whole one.
    """
    words = text.split()
    if not text.isprintable() or len(text) > 8192 or len(words) < 2 or words[0] not in TYPES:
        raise LeafError(_EXPECTED, _HINT)
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise LeafError(_EXPECTED, "its second word is no base64: was it cut?") from None
    fields = _fields(blob)
    if len(fields) < 2 or fields[0] != words[0].encode():
        raise LeafError(_EXPECTED, f"its second word is no whole {words[0]} key: was it cut?")
    return " ".join(words)


def _fields(blob: bytes) -> list[bytes]:
    """The fields of a key; none when it does not end where its last one does."""
    fields, start = [], 0
    while start + 4 <= len(blob):
        end = start + 4 + int.from_bytes(blob[start : start + 4], "big")
        fields.append(blob[start + 4 : end])
        start = end
    return fields if start == len(blob) else []
