"""The project's key: it signs the containers that are built here, and its public half verifies them anywhere.

ed25519 in PEM: Apptainer's signatures with such a key are the same bytes each time, those with PGP keys are
not (apptainer-sign(1), --key).
"""

from __future__ import annotations

import os
from pathlib import Path

from hpcstate import paths
from hpcstate.container.toolbox import Toolbox
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import alone, write_atomically
from hpcstate.run import run

_PRIVATE, _PUBLIC, _FILE = "/sign/key.pem", "/sign/public.pem", "/sign/file.sif"


def public_key() -> Path:
    """The public key; the pair is generated when there is none. Keep a copy of the private one
    (paths.SIGNING_KEY): what another key signed, the nodes refuse.

    Its mode is mended. Raises HpcstateError when the pair cannot be made or only half of it is there.
    """
    if not (paths.SIGNING_KEY.exists() and paths.PUBLIC_KEY.exists()):
        with alone(paths.SIGNING_KEY.parent):
            _make_pair(paths.SIGNING_KEY, paths.PUBLIC_KEY)
    try:
        if paths.SIGNING_KEY.stat().st_mode & 0o077:
            paths.SIGNING_KEY.chmod(0o600)
    except OSError as error:
        raise from_os(error) from error
    return paths.PUBLIC_KEY


def _make_pair(private: Path, public: Path) -> None:
    if not private.exists():
        if public.exists():
            raise HpcstateError(
                "the private key that signs containers is missing, its public half is there",
                where=str(private),
                hint="bring it back from your copy; or remove the public one too, and build and deploy again",
            )
        _generate(private)
    if not public.exists():
        text = run(["openssl", "pkey", "-in", private, "-pubout"]).stdout
        write_atomically(public, text)


def _generate(private: Path) -> None:
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        private.parent.chmod(0o700)
        aside = private.with_name(f".{private.name}.{os.getpid()}")
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.close(handle)
        run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", aside])
        aside.chmod(0o600)
        aside.replace(private)
    except OSError as error:
        raise from_os(error) from error


def fingerprint() -> str:
    """The sha256 of the public key's file: it belongs to the key of everything that is signed."""
    return file_digest(public_key())


def sign(toolbox: Toolbox, sif: Path) -> None:
    """Sign all objects of ``sif``. Raises HpcstateError with Apptainer's last lines."""
    public_key()
    binds = {paths.SIGNING_KEY: _PRIVATE, sif: _FILE}
    key, file = (toolbox.at(path, binds) for path in binds)
    toolbox.apptainer(["--silent", "sign", "--key", key, file], binds=binds)


def verified(toolbox: Toolbox, sif: Path, public: Path | None = None) -> str:
    """Why ``sif`` is not what the owner of the key ``public`` (the project's, by default) signed; empty when
    it is. Raises HpcstateError when that cannot be found out.
    """
    chosen = public or public_key()
    binds = {chosen: _PUBLIC, sif: _FILE}
    key, file = (toolbox.at(path, binds) for path in binds)
    done = toolbox.apptainer(["--silent", "verify", "--all", "--key", key, file], binds=binds, check=False)
    if done.code == 0:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1].removeprefix("FATAL:").strip() if said else f"apptainer verify exited with {done.code}"
