"""People on a Slurm cluster: ``users`` and ``groups`` of the file."""

from __future__ import annotations

from dataclasses import dataclass

SHELLS = ("/bin/bash", "/bin/sh", "/bin/dash", "/usr/sbin/nologin")
"""The login shells that the image of the nodes has."""


@dataclass(frozen=True)
class Group:
    """A group that users share; ``gid`` is the same on every node."""

    name: str
    gid: int


@dataclass(frozen=True)
class User:
    """A person. ``uid`` is the same on every node, and so is the group of their own, which has their name and
    that number; ``groups`` are further ones. ``ssh_keys`` are lines of authorized_keys(5) without options.
    ``admin``: sudo without a password. ``account`` is what their jobs are charged to. ``home_quota_gb`` is
    GiB on the data volume, 0 without a limit, None for that of the cluster.
    """

    name: str
    uid: int
    groups: tuple[str, ...] = ()
    full_name: str = ""
    shell: str = SHELLS[0]
    ssh_keys: tuple[str, ...] = ()
    admin: bool = False
    account: str = ""
    home_quota_gb: int | None = None
