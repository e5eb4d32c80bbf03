"""``directory`` of the cluster file: what it may say, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.model import Description, LdapDirectory

LEAST = "uri: 'ldaps://ldap.example.org', base: 'dc=example,dc=org'"


def parsed(settings: str, more: str = "") -> Description:
    whole = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n    controller: {}\n"
        f"    compute_nodes: [{{}}]\n    directory: {{{settings}}}\n{more}"
    )
    return schema.parse(whole, Path("lab.yaml"))


def of(settings: str, more: str = "") -> LdapDirectory | None:
    return parsed(f"ldap: {{{settings}}}", more).clusters[0].directory


def test_one_uri_or_several() -> None:
    assert of(LEAST) == LdapDirectory(("ldaps://ldap.example.org",), "dc=example,dc=org")
    found = of("uri: ['ldap://a:3890/', 'ldaps://b'], base: 'o=x\\, y,c=de'")
    assert found is not None
    assert (found.uri, found.base) == (("ldap://a:3890", "ldaps://b"), "o=x\\, y,c=de")


def test_all_of_it() -> None:
    text = (
        f"{LEAST}, user_base: ou=p, group_base: ou=g, schema: rfc2307bis, ca_file: /x/ca, bind_dn: cn=x, "
        "bind_password_file: /x/secret, access_filter: '(&(a=b)(c=d))', min_id: 5000, max_id: 9000"
    )
    assert of(text) == LdapDirectory(
        ("ldaps://ldap.example.org",),
        "dc=example,dc=org",
        "ou=p",
        "ou=g",
        "rfc2307bis",
        "required",
        Path("/x/ca"),
        "cn=x",
        Path("/x/secret"),
        (),
        "(&(a=b)(c=d))",
        5000,
        9000,
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", r"directory\.ldap: is missing"),
        ("ldap: {base: dc=x}", r"uri: is missing"),
        ("ldap: {uri: 'ldaps://x'}", r"base: is missing"),
        ("ldap: {uri: 'ldapi:///', base: dc=x}", r"uri: expected ldap://HOST"),
        ("ldap: {uri: 'ldap://x/dc=y', base: dc=x}", r"uri: expected ldap://HOST"),
        ("ldap: {uri: ['ldap://x:0'], base: dc=x}", r"uri\[0\]: expected a port"),
        ("ldap: {uri: 'ldaps://x', base: 'dc=x?sub'}", r"base: expected a distinguished name"),
        ("ldap: {uri: 'ldaps://x', base: x}", r"base: expected a distinguished name"),
        (f"ldap: {{{LEAST}, bind_dn: cn=x}}", r"bind_password_file: a bind needs both"),
        (f"ldap: {{{LEAST}, bind_password_file: /x}}", r"bind_dn: a bind needs both"),
        (f"ldap: {{{LEAST}, tls: none}}", r"tls: ldaps:// is encrypted"),
        ("ldap: {uri: 'ldap://x', base: dc=x, tls: none, ca_file: /x}", r"ca_file: nothing is verified"),
        (f"ldap: {{{LEAST}, allow_groups: [a], access_filter: (a=b)}}", r"access_filter: allow_groups says"),
        (f"ldap: {{{LEAST}, allow_groups: ['a,b']}}", r"allow_groups\[0\]: expected a group's name"),
        (f"ldap: {{{LEAST}, access_filter: '(a)(b)'}}", r"access_filter: expected a filter"),
        (f"ldap: {{{LEAST}, access_filter: '(a))('}}", r"access_filter: expected a filter"),
        (f"ldap: {{{LEAST}, min_id: 1000}}", r"min_id: expected a whole number"),
        (f"ldap: {{{LEAST}, max_id: 65601536}}", r"max_id: expected a whole number"),
        (f"ldap: {{{LEAST}, min_id: 9000, max_id: 8000}}", r"max_id: is less than min_id"),
        (f"ldap: {{{LEAST}, password: x}}", r"unknown key 'password'"),
    ],
)
def test_what_cannot_be(settings: str, words: str) -> None:
    with pytest.raises(ProblemsError, match=words):
        parsed(settings)


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        (LEAST, "", "everybody of the directory"),
        (f"{LEAST}, allow_groups: [a]", "    storage: {home: local}\n", "homes are local"),
        (
            f"{LEAST}, allow_groups: [a]",
            "    accounting: {accounts: [{name: ml}]}\n",
            "submits jobs only when accounting.users names them",
        ),
        ("uri: 'ldap://x', base: dc=x, tls: none, allow_groups: [a]", "", "come in the clear"),
        (
            "uri: 'ldap://x', base: dc=x, tls: none, allow_groups: [a], bind_dn: cn=x, "
            "bind_password_file: /x",
            "",
            "the password of bind_dn, people's names",
        ),
    ],
)
def test_what_is_worth_knowing(settings: str, more: str, words: str) -> None:
    (found,) = parsed(f"ldap: {{{settings}}}", more).warnings
    assert words in found.message


def test_who_is_in_the_directory_is_no_mistake_in_accounting() -> None:
    more = "    accounting: {users: [{name: carol}]}\n"
    warned = [each.message for each in parsed(f"ldap: {{{LEAST}, allow_groups: [a]}}", more).warnings]
    assert not [text for text in warned if "none of `users`" in text]
