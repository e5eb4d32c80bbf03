"""The keys of ``mail``: the relay of mails about jobs."""

from __future__ import annotations

import re
from typing import cast, get_args

from hpcstate.model import MailSettings
from hpcstate.model.mail import Tls
from hpcstate.schema import leaf
from hpcstate.schema.declare import Keys, ValueKey
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.mount_keys import folder

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
SMTP = 25
"""The port of a relay that names none (RFC 5321)."""


def relay(value: str) -> tuple[str, int]:
    """``HOST`` or ``HOST:PORT``."""
    host, colon, port = value.partition(":")
    if not re.fullmatch(_HOST, host, re.ASCII) or (colon and not re.fullmatch(r"[0-9]{1,5}", port)):
        raise LeafError("a host, and a port behind a colon: smtp.example.org:587")
    number = int(port) if colon else SMTP
    if not 1 <= number <= 65535:
        raise LeafError("a port from 1 to 65535")
    return host, number


def tls(value: str) -> Tls:
    """How the relay is spoken to."""
    return cast(Tls, leaf.choice(*get_args(Tls))(value))


ADDRESS = leaf.pattern(rf"[A-Za-z0-9._%+-]+@{_HOST}", "an address like cluster@example.org", longest=254)
DOMAIN = leaf.pattern(_HOST, "a domain like example.org", longest=253)
LOGIN = leaf.pattern(r"[A-Za-z0-9._%+@=-]+", "a login of letters, digits and ._%+@=-", longest=254)


class MailKeys(Keys, title="mail"):
    relay = ValueKey[tuple[str, int] | None](
        "the mail server that takes them, `smtp.example.org:587`; port 25 without one",
        relay,
        None,
        required=True,
    )
    sender = ValueKey("the address that they come from", ADDRESS, "", required=True)
    domain = ValueKey(
        "put behind the name of a user who gave no `--mail-user` (MailDomain)", DOMAIN, MailSettings.domain
    )
    tls = ValueKey(
        "`starttls`, `tls` (from the first byte, port 465) or `none`",
        tls,
        MailSettings.tls,
    )
    user = ValueKey("the login at the relay, where it wants one", LOGIN, MailSettings.user)
    password_file = ValueKey(
        "a file of this machine whose first line is the password: an absolute path",
        folder,
        "",
        default_text="",
    )
