"""``directory`` of an hpc cluster: people who come from an LDAP directory."""

from __future__ import annotations

from pathlib import Path

from hpcstate.model import AccountingSettings, Home, LdapDirectory
from hpcstate.schema.directory_keys import DirectoryKeys, LdapKeys
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.section import Section, read


def read_directory(cluster: Section, home: Home, accounting: AccountingSettings) -> LdapDirectory | None:
    """The section; None where it is absent, or lacks what it needs (reported)."""
    if HpcKeys.directory not in cluster:
        return None
    outer = cluster.section(HpcKeys.directory)
    section = outer.section(DirectoryKeys.ldap)
    if DirectoryKeys.ldap not in outer:
        return None
    uri, base = _uri(section), section.value(LdapKeys.base)
    tls, ca = section.value(LdapKeys.tls), section.value(LdapKeys.ca_file)
    dn, password = section.value(LdapKeys.bind_dn), section.value(LdapKeys.bind_password_file)
    groups, entries = section.values(LdapKeys.allow_groups), section.value(LdapKeys.access_filter)
    least, greatest = section.value(LdapKeys.min_id), section.value(LdapKeys.max_id)
    report = section.report
    if bool(dn) != bool(password):
        row = LdapKeys.bind_password_file if dn else LdapKeys.bind_dn
        report.error(section.at(row), "a bind needs both", "add it, or leave out both: some ask without one")
    if tls == "none":
        _check_clear(section, uri, bool(ca), bool(dn))
    if groups and entries:
        report.error(
            section.at(LdapKeys.access_filter), "allow_groups says who may log in", "keep one of the two"
        )
    if not groups and not entries:
        report.warning(
            section.place,
            "everybody of the directory who has an SSH key there may log in",
            "allow_groups or access_filter says who may",
        )
    if least > greatest:
        report.error(section.at(LdapKeys.max_id), f"is less than min_id ({least})", "nobody would be seen")
    if home == "local":
        report.warning(
            section.place,
            "homes are local: one of the directory has none on a node before logging in there, and jobs "
            "there start in /tmp",
            "storage.home: nfs",
        )
    if accounting.declared:
        report.warning(
            section.place,
            "`accounting` declares who may use how much: one of the directory submits jobs only when "
            "accounting.users names them",
            "name those who submit, or declare nothing in accounting",
        )
    if not uri or not base:
        return None
    return LdapDirectory(
        uri=uri,
        base=base,
        user_base=section.value(LdapKeys.user_base),
        group_base=section.value(LdapKeys.group_base),
        schema=section.value(LdapKeys.schema),
        tls=tls,
        ca_file=Path(ca) if ca else None,
        bind_dn=dn,
        bind_password_file=Path(password) if password else None,
        allow_groups=groups,
        access_filter=entries,
        min_id=least,
        max_id=greatest,
    )


def _uri(section: Section) -> tuple[str, ...]:
    """One, or a list of them."""
    found = section.raw(LdapKeys.uri)
    if isinstance(found, str) and LdapKeys.uri in section:
        one = read(section.report, section.at(LdapKeys.uri), found, LdapKeys.uri.leaf, "")
        return (one,) if one else ()
    return tuple(dict.fromkeys(section.values(LdapKeys.uri)))


def _check_clear(section: Section, uri: tuple[str, ...], ca: bool, binds: bool) -> None:
    """What does not go together with a connection in the clear."""
    if any(each.startswith("ldaps:") for each in uri):
        section.report.error(
            section.at(LdapKeys.tls), "ldaps:// is encrypted", "leave out tls, or write ldap://"
        )
    elif ca:
        section.report.error(
            section.at(LdapKeys.ca_file), "nothing is verified with tls: none", "leave out one of the two"
        )
    else:
        says = "the password of bind_dn, " if binds else ""
        section.report.warning(
            section.at(LdapKeys.tls),
            f"{says}people's names and the keys that open their accounts come in the clear: who is on the "
            "way can let themselves in as anybody",
            "leave out tls where the server has a certificate",
        )
