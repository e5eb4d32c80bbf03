"""A cluster's secrets: generated once below build/<cluster>/secrets/, folder 0700, files 0600."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.node.ssh_keys import KeyPair, close_key, known_hosts_line, new_key
from hpcstate.paths import ClusterPaths

MUNGE_KEY_LEAST, MUNGE_KEY_BYTES = 32, 1024
"""A munge key has 32 to 1024 bytes (mungekey(8), --bits); ours have the most."""


def ensure_secrets(cluster: Cluster) -> None:
    """Make what is missing: the SSH user key, a host key for each node, known_hosts, the munge key.

    No key that is there is ever replaced (new_key, _ensure_munge_key). Raises HpcstateError for one that
    cannot be used.
    """
    at = ClusterPaths.of(cluster.name)
    if at.secrets.exists() and not at.secrets.is_dir():
        raise HpcstateError(
            "this is no folder with the keys of a cluster",
            where=str(at.secrets),
            hint="put the right one back; if it is lost for good, move what is there away: new keys are made",
        )
    at.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    at.secrets.chmod(0o700)
    new_key(at.ssh_key)
    lines = [
        known_hosts_line(f"{node.name},{node.address}", host_key(cluster, node.name))
        for node in cluster.nodes
    ]
    known = "".join(lines)
    if not at.known_hosts.is_file() or at.known_hosts.read_bytes() != known.encode():
        write_atomically(at.known_hosts, known, mode=0o600)
    close_key(at.known_hosts)
    if cluster.kind == "hpc":
        _ensure_munge_key(at.munge_key)


def host_key(cluster: Cluster, node_name: str) -> KeyPair:
    """The SSH host key of a node, generated at the first asking."""
    return new_key(ClusterPaths.of(cluster.name).host_key(node_name))


def _ensure_munge_key(path: Path) -> None:
    """A munge key that is there is kept, whoever made it; its mode is mended.

    Raises HpcstateError for one that munged would not take.
    """
    if not path.exists():
        if path.is_symlink():
            raise HpcstateError("this link leads nowhere", where=str(path), hint="put the key back")
        _write_secret(path, secrets.token_bytes(MUNGE_KEY_BYTES))
        return
    close_key(path)
    size = path.stat().st_size
    if not MUNGE_KEY_LEAST <= size <= MUNGE_KEY_BYTES:
        raise HpcstateError(
            f"this munge key has {size} bytes; munged takes {MUNGE_KEY_LEAST} to {MUNGE_KEY_BYTES}",
            where=str(path),
            hint="put the right key back; if it is lost for good, move the file away, and a new one is made",
        )


def _write_secret(path: Path, content: bytes) -> None:
    """In one step: an interrupted run leaves no part of a key."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with the mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
