"""SSH keys, generated once: user keys to enter nodes, host keys to know them before first contact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcstate.run import run


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
    """The key pair in ``path`` and ``path``.pub, generated when it is not there yet."""
    public = path.with_name(path.name + ".pub")
    if not (path.is_file() and public.is_file()):
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hpcstate", "-f", path])
    kind, blob, *_ = public.read_text().split()
    return KeyPair(path, f"{kind} {blob}")


def known_hosts_line(names: str, key: KeyPair) -> str:
    """One line of known_hosts(5) for ``names`` (``node,192.0.2.1`` or ``[127.0.0.1]:2222``)."""
    return f"{names} {key.public}\n"
