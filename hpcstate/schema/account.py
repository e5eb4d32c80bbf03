"""Names and numbers of people's accounts and groups."""

from __future__ import annotations

from hpcstate.schema.leaf import LeafError, integer, pattern

_NAME = pattern(
    r"[a-z][a-z0-9_-]*",
    "a name of lower-case letters, digits, '_' and '-', beginning with a letter, at most 32 characters",
    longest=32,
)
_WORDS = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody nogroup adm tty
disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff
users input sgx clock kvm render crontab netdev messagebus polkitd sshd uuidd tcpdump statd ssl-cert
admin hpc shared slurm munge mysql prometheus docker libvirt wheel all default
"""
OF_THE_SYSTEM = frozenset(_WORDS.split())
"""Accounts and groups of Debian, of the image's packages and of hpcstate, and words with a meaning to sshd,
sudo or Slurm."""

_TAKEN = {1000: "admin, which hpcstate works by", 2000: "hpc, which the checks run jobs as"}
"""Numbers that accounts of ours have: templates/cloud-init/user-data.j2, hpcstate.node.base_files.JOB_UID."""

FULL_NAME = pattern(
    r"[^:,\x00-\x1f\x7f]*", "a name without colons, commas and line breaks (passwd(5), GECOS)", longest=100
)


def account_name(value: str) -> str:
    """The name of a person's account or group, which is none of the system's."""
    if value in OF_THE_SYSTEM or value.startswith("systemd-"):
        raise LeafError("another name", f"{value} is an account or a group of the system")
    return _NAME(value)


def account_number(value: str) -> int:
    """A number of an account or group in Debian's range for persons (login.defs(5), UID_MIN and UID_MAX)."""
    number = integer(1000, 60000)(value)
    if owner := _TAKEN.get(number):
        raise LeafError("another number", f"{number} is that of {owner}")
    return number
