"""A cluster's secrets: generated once below build/<cluster>/secrets/, folder 0700, files 0600."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import write_atomically
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.run import run, tail

_SECONDS = 30.0
"""ssh-keygen takes milliseconds; it must not wait for a passphrase that nobody types."""


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair: the private key's file (0600) and the public key's line without comment."""

    path: Path
    public: str

    @property
    def private(self) -> str:
        """The private key in OpenSSH's format. A secret: into files of mode 0600 only."""
        return self.path.read_text()


def new_key(path: Path) -> KeyPair:
    """The key pair in ``path`` and ``path``.pub, generated when there is no private key yet.

    A private key that is there is never replaced: its public half is derived from it where that is missing or
    of another key, and its mode is mended. Raises HpcstateError when it cannot be read or needs a passphrase,
    and when only its public half is there: nodes may still be open to the key that is missing.
    """
    public = path.with_name(path.name + ".pub")
    if not path.exists():
        if path.is_symlink():
            raise HpcstateError("this link leads nowhere", where=str(path), hint="put the key back")
        if public.exists() or public.is_symlink():
            raise HpcstateError(
                "this private key is missing, its public half is there",
                where=str(path),
                hint=f"put it back; if it is lost for good, remove {public.name} too: a new pair is made; "
                "nodes that are off get it as they boot",
            )
        _generate(path)
    close_key(path)
    derived = _derived(path)
    if not public.is_file() or public.read_bytes().split()[:2] != derived.encode().split():
        write_atomically(public, f"{derived} hpcstate\n")
    return KeyPair(path, derived)


def close_key(path: Path) -> None:
    """Mend the mode of the key that is in ``path``: nobody but its owner reads it.

    Raises HpcstateError for what is no file: a folder has a size as a key has, a pipe waits for who writes.
    """
    if not path.is_file():
        raise HpcstateError(
            "this is no file, where a key must be",
            where=str(path),
            hint="put the right key back; if it is lost for good, move this away, and a new one is made",
        )
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def known_hosts_line(names: str, public: str) -> str:
    """One line of known_hosts(5): ``names`` (``node,192.0.2.1`` or ``[127.0.0.1]:2222``) show the key whose
    ``public`` half this is."""
    return f"{names} {public}\n"


def _generate(path: Path) -> None:
    """The private key, made in a folder of its own and renamed: an interrupted run leaves no part of one. Its
    public half is derived afterwards, so that one alone is never what an interrupted run left."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".key.") as folder:
        made = Path(folder) / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hpcstate", "-f", made])
        made.replace(path)


def _derived(path: Path) -> str:
    """The public half of the private key in ``path``, without its comment."""
    done = run(["ssh-keygen", "-y", "-P", "", "-f", path], timeout=_SECONDS, check=False)
    words = done.stdout.split()
    if done.code != 0 or len(words) < 2:
        said = tail(done.stderr, 1).strip()
        raise HpcstateError(
            f"this private key cannot be used: {said or 'ssh-keygen says nothing'}",
            where=str(path),
            hint="put the right key back, without a passphrase; if it is lost for good, move the file away: "
            "a new one is made, and nodes that are off get it as they boot",
        )
    return f"{words[0]} {words[1]}"


MUNGE_KEY_LEAST, MUNGE_KEY_BYTES = 32, 1024
"""A munge key has 32 to 1024 bytes (mungekey(8), --bits); ours have the most."""


def ensure_secrets(cluster: Cluster) -> None:
    """Make what is missing: the SSH user key, a host key for each node, the munge key.

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
    for node in cluster.nodes:
        host_key(cluster, node.name)
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
        write_atomically(path, secrets.token_bytes(MUNGE_KEY_BYTES), mode=0o600)
        return
    close_key(path)
    size = path.stat().st_size
    if not MUNGE_KEY_LEAST <= size <= MUNGE_KEY_BYTES:
        raise HpcstateError(
            f"this munge key has {size} bytes; munged takes {MUNGE_KEY_LEAST} to {MUNGE_KEY_BYTES}",
            where=str(path),
            hint="put the right key back; if it is lost for good, move the file away, and a new one is made",
        )
