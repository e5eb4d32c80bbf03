"""People of an LDAP directory on the nodes of a Slurm cluster, by Debian's sssd (``directory``). Pure.

The cluster file comes first: a name or a number that it gives to somebody (``users``, ``groups``), and those
of the system, are of the node's own files. nsswitch.conf asks those first; sssd does not see entries with
their numbers (search bases with a filter, sssd-ldap(5)) and does not tell of their names (filter_users,
sssd.conf(5)). So a directory makes nobody root: a group ``sudo`` of its own is none to sudo, which compares
names.

There are no passwords: sssd answers who somebody is, which keys open the account (sss_ssh_authorizedkeys(1))
and whether they may log in (pam_sss(8), account).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, LdapDirectory, Node
from hpcstate.node.base_files import HOME_AT_LOGIN, JOB_UID, KEYS_OF_DIRECTORY
from hpcstate.node.data_volume import HOME, UNITS
from hpcstate.node.homes import owns_homes
from hpcstate.node.ssh import JOB_USER, SSH_USER
from hpcstate.render import of_site, render
from hpcstate.schema.account import OF_THE_SYSTEM

PACKAGES = ("ca-certificates", "libnss-sss", "libpam-sss", "sssd-ldap")
"""What the nodes have for it; their own scripts put sss into nsswitch.conf and PAM, and take it out again."""

RECORD = "/etc/hpcstate/directory"
"""Our note on a node that its sssd is ours."""

CONF = "/etc/sssd/sssd.conf"
CA = "/etc/sssd/hpcstate-ca.pem"
DEBIANS_CA = "/etc/ssl/certs/ca-certificates.crt"
DROP_IN = f"{UNITS}/sssd.service.d/hpcstate.conf"
HOMES_UNIT = "hpcstate-homes.service"
HOMES_SERVICE = f"{UNITS}/{HOMES_UNIT}"
FILES = (CONF, CA, DROP_IN, KEYS_OF_DIRECTORY, HOME_AT_LOGIN, HOMES_SERVICE)
"""All that there may be of it."""

DOMAIN = "directory"
WANTED = f"{HOME}/.hpcstate-wanted"
"""Where people ask for their home, by a file of their own that has their number as its name: where homes come
by NFS, nobody on a node but the controller can make one."""

SOCKETS = tuple(f"sssd-{name}.socket" for name in ("autofs", "nss", "pac", "pam", "ssh", "sudo"))
"""What Debian turns on beside the service. Those whose service sssd.conf names fail at each start
(sssd_check_socket_activated_responders), and we name all that we need: then sssd restarts them, too."""

SHELLS = tuple(
    f"{folder}/{name}"
    for name in ("bash", "sh", "dash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "rbash")
    for folder in ("/bin", "/usr/bin", "/usr/local/bin")
)

FIRST_OF_PEOPLE = 1001
"""Lower numbers are those of the system, and of ``admin``."""

_BEGIN = "-----BEGIN CERTIFICATE-----"


def makes_homes(cluster: Cluster, node: Node) -> bool:
    """Whether ``node`` makes homes that others ask for: the controller, where all have the same ones."""
    return cluster.directory is not None and cluster.home != "local" and node is cluster.controller


@of_site
def files(cluster: Cluster, node: Node) -> Mapping[str, tuple[str, str]]:
    """Path to content and mode on ``node``, but for what ``secrets`` has; none without a directory."""
    directory = cluster.directory
    if directory is None:
        return {}
    own = programs.command(
        Path(__file__).with_name("directory_home.sh"),
        homes=HOME,
        wanted=WANTED,
        least=directory.min_id,
        mounted="yes" if cluster.home != "local" else "",
        owns="yes" if owns_homes(cluster, node) else "",
    )
    keys = programs.command(Path(__file__).with_name("directory_keys.sh"))
    found = {
        DROP_IN: (render("base/sssd.service.j2"), "644"),
        KEYS_OF_DIRECTORY: (f"#!/bin/sh\n{keys}\n", "755"),
        HOME_AT_LOGIN: (f"#!/bin/sh\n{own}\n", "755"),
    }
    if makes_homes(cluster, node):
        text = render("base/homes.service.j2", homes=HOME, program=f"{HOME_AT_LOGIN} serve")
        found[HOMES_SERVICE] = (text, "644")
    return found


def secrets(cluster: Cluster) -> Mapping[str, tuple[str, str]]:
    """Path to content and mode of what is made of files of this machine: sssd.conf, with the password in it,
    and the certificates. None without a directory.

    Raises HpcstateError for a file that cannot be read or is something else.
    """
    directory = cluster.directory
    if directory is None:
        return {}
    password = _password(directory.bind_password_file) if directory.bind_password_file else ""
    found = {CONF: (sssd_conf(cluster, directory, password), "600")}
    if directory.ca_file:
        found[CA] = (_certificates(directory.ca_file), "644")
    return found


@of_site
def sssd_conf(cluster: Cluster, directory: LdapDirectory, password: str) -> str:
    """The text of sssd.conf(5)."""
    numbers = reserved_numbers(cluster)
    return render(
        "base/sssd.conf.j2",
        directory=directory,
        domain=DOMAIN,
        names=reserved_names(cluster),
        users=_without(("uidNumber", "gidNumber"), numbers),
        groups=_without(("gidNumber",), (*range(FIRST_OF_PEOPLE), *numbers)),
        password=password,
        ca=CA if directory.ca_file else DEBIANS_CA,
        homes=HOME,
        shells=SHELLS,
    )


def reserved_names(cluster: Cluster) -> tuple[str, ...]:
    """The names that nobody of a directory has here, of accounts and groups."""
    people = (*(user.name for user in cluster.users), *(group.name for group in cluster.groups))
    return tuple(sorted({*OF_THE_SYSTEM, "sssd", JOB_USER, SSH_USER, *people}))


def reserved_numbers(cluster: Cluster) -> tuple[int, ...]:
    """The numbers that nobody of a directory has here, from 1001; lower ones never count."""
    people = (*(user.uid for user in cluster.users), *(group.gid for group in cluster.groups))
    # The last two: nobody (Debian's base-passwd), and what no call takes for a number (setreuid(2)).
    return tuple(sorted({JOB_UID, 65534, 65535, *people}))


def _without(attributes: tuple[str, ...], numbers: tuple[int, ...]) -> str:
    """A filter for entries that have none of ``numbers`` in ``attributes``."""
    return "(!(|" + "".join(f"({name}={number})" for name in attributes for number in numbers) + "))"


def _password(path: Path) -> str:
    line = _read(path, "bind_password_file").partition("\n")[0].removesuffix("\r")
    if not line or line != line.strip() or not line.isprintable():
        raise HpcstateError(
            "the first line is no password that sssd.conf can have",
            where=f"directory.ldap.bind_password_file: {path}",
            hint="it is not empty, and has no blanks around it and no control characters in it",
        )
    return line


def _certificates(path: Path) -> str:
    text = _read(path, "ca_file")
    if _BEGIN not in text or "PRIVATE KEY" in text:
        raise HpcstateError(
            "a private key is in it" if "PRIVATE KEY" in text else "there is no certificate in it",
            where=f"directory.ldap.ca_file: {path}",
            hint=f"it is a text with {_BEGIN}: `openssl x509 -in FILE -noout -subject` shows one; of a key "
            "nothing may leave its machine",
        )
    return text if text.endswith("\n") else f"{text}\n"


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise HpcstateError(reason, where=f"directory.ldap.{key}: {path}") from None
