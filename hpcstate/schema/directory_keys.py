"""The keys of ``directory``: people of an LDAP directory."""

from __future__ import annotations

import re
from typing import cast, get_args

from hpcstate.model import LdapDirectory
from hpcstate.model.directory import LdapSchema, LdapTls
from hpcstate.schema import leaf
from hpcstate.schema.declare import Keys, ListKey, SectionKey, ValueKey
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.mount_keys import folder

_URI = re.compile(r"(ldaps?)://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?/?", re.ASCII)
_DN = re.compile(r"[A-Za-z][A-Za-z0-9.-]*=(?:[^,\\]|\\.)+(,\s*[A-Za-z][A-Za-z0-9.-]*=(?:[^,\\]|\\.)+)*")


def ldap_uri(value: str) -> str:
    """``ldap://HOST[:PORT]`` or ``ldaps://HOST[:PORT]`` (RFC 4516, without the parts behind the host)."""
    found = _URI.fullmatch(value)
    if found is None:
        hint = "a socket of this machine is none of the nodes'" if value.startswith("ldapi:") else ""
        raise LeafError("ldap://HOST or ldaps://HOST, with :PORT where it is another one", hint)
    if found[4] and not 1 <= int(found[4][1:]) <= 65535:
        raise LeafError("a port from 1 to 65535")
    return value.removesuffix("/")


def distinguished_name(value: str) -> str:
    """A distinguished name (RFC 4514) without what has a meaning of its own in sssd's search bases."""
    text = value.strip()
    if len(text) > 1000 or not text.isprintable() or "?" in text or not _DN.fullmatch(text):
        raise LeafError("a distinguished name like ou=people,dc=example,dc=org")
    return text


def search_filter(value: str) -> str:
    """A filter of LDAP (RFC 4515), as far as its parentheses go: sssd puts its own around it."""
    depth = 0
    for at, letter in enumerate(value):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0 or (depth == 0 and at < len(value) - 1):
            break
    whole = value.startswith("(") and value.endswith(")") and at == len(value) - 1 and depth == 0
    if not whole or len(value) > 2000 or not value.isprintable():
        raise LeafError("a filter of LDAP in parentheses, like (memberOf=cn=hpc,ou=groups,dc=example,dc=org)")
    return value


def ldap_schema(value: str) -> LdapSchema:
    """``schema`` of the directory."""
    return cast(LdapSchema, leaf.choice(*get_args(LdapSchema))(value))


def ldap_tls(value: str) -> LdapTls:
    """``tls`` of the directory."""
    return cast(LdapTls, leaf.choice(*get_args(LdapTls))(value))


GROUP = leaf.pattern(
    r"[A-Za-z0-9_]([A-Za-z0-9_. -]*[A-Za-z0-9_.-])?",
    "a group's name of letters, digits, blanks and '_.-'",
    longest=128,
)


class LdapKeys(Keys, title="directory.ldap"):
    uri = ListKey(
        "`ldaps://ldap.example.org`, or `ldap://…`, which StartTLS encrypts; several in a list, asked in "
        "their order",
        ldap_uri,
        required=True,
    )
    base = ValueKey("where people and groups are: `dc=example,dc=org`", distinguished_name, "", required=True)
    user_base = ValueKey(
        "where people are, when not below `base`", distinguished_name, LdapDirectory.user_base
    )
    group_base = ValueKey(
        "where groups are, when not below `base`", distinguished_name, LdapDirectory.group_base
    )
    schema = ValueKey(
        "how groups name their members: `rfc2307` (memberUid) or `rfc2307bis` (member)",
        ldap_schema,
        LdapDirectory.schema,
    )
    tls = ValueKey(
        "`required`: nothing is said before the connection is encrypted and the server's certificate "
        "verified; `none`: in the clear, where everybody on the way may let themselves in",
        ldap_tls,
        LdapDirectory.tls,
    )
    ca_file = ValueKey(
        "a file of this machine with the certificates (PEM) that verify the server's: an absolute path",
        folder,
        "",
        default_text="those that Debian trusts",
    )
    bind_dn = ValueKey("as whom the nodes ask", distinguished_name, LdapDirectory.bind_dn)
    bind_password_file = ValueKey(
        "a file of this machine whose first line is the password of `bind_dn`: an absolute path",
        folder,
        "",
    )
    allow_groups = ListKey("groups of the directory: who is in one of them may log in", GROUP)
    access_filter = ValueKey(
        "a filter of LDAP instead: whose entry fits may log in",
        search_filter,
        LdapDirectory.access_filter,
    )
    min_id = ValueKey(
        "the least number of users and groups; those with a lower one are not seen",
        leaf.integer(1001, 65_000_000),
        LdapDirectory.min_id,
    )
    max_id = ValueKey(
        "the greatest number; above 65000000 are those of people's containers (container-runtime.md)",
        leaf.integer(1001, 65_000_000),
        LdapDirectory.max_id,
    )


class DirectoryKeys(Keys, title="directory"):
    ldap = SectionKey("an LDAP directory, which the nodes ask by sssd", LdapKeys, required=True)
